"""SD Turbo and SDXL Turbo as single files: known by name or title, said in a line, overruled by who knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import save_file

from danqing import Session
from danqing.apps import find_app
from danqing.families import open_painter
from danqing.weights.ldm_configs import Kind
from tests.single_files import SD1, SDXL, original, tiny

NOTE = "is taken for a Turbo model by its name: 4 steps of lcm, guidance 1; choose others with"


def stored(folder: Path, stem: str, kind: Kind = SD1, title: str = "") -> str:
    components = tiny(kind)
    tensors = {name: tensor.contiguous() for name, tensor in original(components, kind).items()}
    path = folder / f"{stem}.safetensors"
    save_file(tensors, path, {"modelspec.title": title} if title else None)
    components.tokenizer.save_pretrained(folder / "tokenizer")
    return str(path)


@pytest.mark.parametrize(
    ("stem", "kind", "title", "is_turbo"),
    [
        ("sd_xl_turbo_1.0_fp16", SDXL, "", True),
        ("sd_turbo", SD1, "", True),
        ("DreamXLTurbo", SD1, "", True),
        ("model", SD1, "SDXL Turbo", True),
        ("turbocharged", SD1, "", False),
        ("perturbo", SD1, "", False),
        ("model", SD1, "a model", False),
    ],
)
def test_what_is_taken_for_turbo(tmp_path: Path, stem: str, kind: Kind, title: str, is_turbo: bool) -> None:
    card = open_painter(stored(tmp_path, stem, kind, title)).card
    usual = 5.0 if kind is SDXL else 7.5
    expected = (4, 1.0, "lcm") if is_turbo else (25, usual, "dpmpp_2m")
    assert (card.steps, card.guidance, card.sampler) == expected
    assert (NOTE in card.note) == is_turbo


def test_it_walks_the_steps_of_the_folder(tmp_path: Path) -> None:
    """Its schedule ends at the last time, as the scheduler of the published folders does (trailing)."""
    painter = open_painter(stored(tmp_path, "sd_turbo"))
    assert painter.schedule.levels(4)[0].t == 999  # type: ignore[attr-defined]


def test_it_is_said_and_may_be_overruled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stored(tmp_path, "sd_turbo")
    Image.new("RGB", (64, 64), "red").save("in.png")
    session, app = Session(), find_app("paint")
    fields: dict[str, Any] = {"prompt": "a", "model": "sd_turbo.safetensors", "width": 64, "height": 64}
    inputs = app.parse(fields, session)
    assert sum(NOTE in note for note in inputs.notes) == 1
    assert (inputs.resolved_brief.steps, inputs.resolved_brief.guidance, inputs.resolved_brief.sampler) == (
        4,
        1.0,
        "lcm",
    )
    inputs = app.parse({**fields, "steps": 6, "guidance": 2.0, "sampler": "euler"}, session)
    assert not any(NOTE in note for note in inputs.notes)
    assert (inputs.resolved_brief.steps, inputs.resolved_brief.guidance, inputs.resolved_brief.sampler) == (
        6,
        2.0,
        "euler",
    )

    redraw = find_app("redraw")
    inputs = redraw.parse({**fields, "image": "in.png"}, session)
    [picture] = session.run(redraw, inputs)
    assert picture.brief.steps == 4
    assert sum(NOTE in note for note in inputs.notes) == 1

    Path("sd_turbo.json").write_text(json.dumps({"timestep_spacing": "leading"}))
    inputs = app.parse(fields, Session())
    assert not any(NOTE in note for note in inputs.notes)
    assert (inputs.resolved_brief.steps, inputs.resolved_brief.guidance) == (25, 7.5)
