"""What pictures say of themselves: exact for us, and readable by the other programs' reader."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sd_parsers import ParserManager

from danqing.core.brief import Brief
from danqing.core.errors import BadPicture
from danqing.core.metadata import Info, read_json, write_a1111, write_json
from tests.toy import CARD

NASTY = 'a cat\nNegative prompt: dog, Steps: 9, Sampler: x, Seed: 3\r\n"quoted": {"Hashes: {}'
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters='\n\t,:"'), max_size=80)
PROMPT = TEXT.filter(str.strip)
INFO = Info(sampler="DPM++ 2M", seconds=1.5, dropped="the tail", versions={"danqing": "0.1.0"})


@st.composite
def briefs(draw: st.DrawFn) -> Brief:
    return Brief.of(
        draw(PROMPT),
        negative_prompt=draw(TEXT),
        seed=draw(st.integers(0, 2**32 - 1)),
        guidance=draw(st.floats(0, 50)),
        background=draw(st.sampled_from(["white", "transparent", "#a0b1c2"])),
        model=draw(st.sampled_from(["stickers", "C:/my, models/one:two", "模型"])),
        steps=draw(st.integers(1, 1000)),
    ).resolve(CARD)


def a1111_of(text: str) -> tuple[str, str, dict[str, str], str]:
    chunks, file = PngInfo(), io.BytesIO()
    chunks.add_text("parameters", text)
    Image.new("RGB", (2, 2)).save(file, "PNG", pnginfo=chunks)
    info = ParserManager().parse(file)
    assert info is not None, text
    (sampler,) = info.samplers
    prompts, negatives = (
        [part.value for part in parts] for parts in (sampler.prompts, sampler.negative_prompts)
    )
    assert sampler.name == "DPM++ 2M"
    model = sampler.model.name if sampler.model else ""
    return "".join(prompts), "".join(negatives), {**sampler.parameters, **info.metadata}, model or ""


@given(briefs())
@example(Brief.of(NASTY, negative_prompt=NASTY, seed=3).resolve(CARD))
def test_other_programs_read_every_field(brief: Brief) -> None:
    prompt, negative, fields, model = a1111_of(write_a1111(brief, INFO))
    assert fields["seed"] == str(brief.seed)
    assert fields["steps"] == str(brief.steps)
    assert float(fields["cfg_scale"]) == pytest.approx(brief.guidance, rel=1e-5)
    assert fields["Size"] == f"{brief.width}x{brief.height}"
    assert fields["Version"] == "danqing 0.1.0"
    assert model == {"C:/my, models/one:two": ""}.get(brief.model, brief.model)
    assert bare(prompt) == bare(brief.prompt)
    assert bare(negative) == bare(brief.negative_prompt)


def bare(text: str) -> str:
    return "".join(text.replace("Negative prompt:", "Negative prompt :").split())


@given(briefs(), st.builds(Info, dropped=TEXT, seconds=st.floats(0, 1e9), parent=st.none() | TEXT))
@example(Brief.of(NASTY, seed=3).resolve(CARD), INFO)
def test_our_own_chunk_is_exact(brief: Brief, info: Info) -> None:
    assert read_json(write_json(brief, info)) == (brief, info)


RESOLVED = Brief.of("猫", seed=1).resolve(CARD)


def test_what_a_newer_version_wrote_is_read_and_named() -> None:
    record = json.loads(write_json(RESOLVED, INFO))
    record |= {"layers": []}
    record["brief"] |= {"mood": "calm"}
    record["info"] |= {"watts": 3}
    brief, info = read_json(json.dumps(record))
    assert brief == RESOLVED
    assert info.unread == ("mood",)
    assert info.dropped == INFO.dropped


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[]", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "holds no brief"),
        ('{"brief": 3}', "holds no brief"),
        ('{"brief": {"prompt": null}}', "holds no brief"),
        ('{"brief": {"prompt": "a", "steps": 0}}', "no longer be painted: steps 0"),
        ('{"brief": {"prompt": "a", "guidance": NaN}}', "guidance nan"),
        ('{"brief": {"prompt": "a", "seed": 1}}', "leaves width open"),
        ('{"brief": {"prompt": "\\u001b[2J"}}', "control character"),
        ('{"brief": {"prompt": "\\ud800"}}', "UTF-8"),
        ('{"brief": {"prompt": "a"}, "info": {"seconds": "x"}}', "damaged at seconds"),
        ('{"brief": {"prompt": "a"}, "info": {"versions": [1]}}', "damaged at versions"),
    ],
    ids=lambda text: text[:30],
)
def test_a_bad_chunk_is_told_in_one_line(text: str, says: str) -> None:
    with pytest.raises(BadPicture, match=says) as caught:
        read_json(text)
    assert str(caught.value).isprintable()
