"""Less work for the same picture: rows of the network that need not be computed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.core.metadata import Info, read_json, write_a1111, write_json
from danqing.core.painter import Painter
from danqing.core.seeds import Seeds
from danqing.diffusion.guidance import NetworkCall
from danqing.diffusion.prior import Prior
from danqing.families.stable_diffusion.painter import random_painter
from danqing.nets.token_transformer import TokenTransformer
from tests.test_devices import PAINTERS
from tests.toy import CARD


def paint(painter: Painter, pictures: int = 2, **fields: Any) -> Tensor:
    """The last state of a picture of the tiny model."""
    values = {"prompt": "a cat", "seed": 1, "steps": 5, "native": True, **fields}
    brief = Brief.of(**values).resolve(painter.card)
    conditioning = painter.condition(brief)
    canvas = painter.begin(brief, conditioning, Seeds.of(1, pictures))
    *_, canvas = painter.steps(brief, conditioning, canvas)
    return canvas.state


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each call of a denoiser, or of a transformer that begins a picture, as they come."""
    counted: list[int] = []
    output, begin = NetworkCall.output, TokenTransformer.begin

    def counted_output(call: NetworkCall) -> Tensor:
        if not isinstance(call.network, Prior):  # which has a guidance of its own
            counted.append(len(call.x))
        return output(call)

    def counted_begin(network: TokenTransformer, text: Tensor, *others: Any) -> Any:
        counted.append(len(text))
        return begin(network, text, *others)

    monkeypatch.setattr(NetworkCall, "output", counted_output)
    monkeypatch.setattr(TokenTransformer, "begin", counted_begin)
    return counted


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [4, 4, 4, 4, 4]),
        ({"guidance_start": 0.2, "guidance_end": 0.8}, [2, 4, 4, 4, 2]),
        ({"guidance_start": 0.6}, [2, 2, 2, 4, 4]),
        ({"guidance_end": 0.4, "steps": 10}, [4, 4, 4, 4, 2, 2, 2, 2, 2, 2]),
        ({"guidance_end": 0.4, "sampler": "euler"}, [4, 4, 2, 2, 2]),
        ({"guidance_end": 0.4, "sampler": "unipc"}, [4, 4, 2, 2, 2]),
        ({"guidance_end": 0.4, "guidance": 1.0}, [2, 2, 2, 2, 2]),
        ({"guidance_end": 0.4, "prompt": "a [cat:dog:0.5]"}, [4, 4, 2, 2, 2]),
    ],
)
def test_the_negative_row_is_left_out_beyond_the_interval(
    fields: dict[str, Any], expected: list[int], rows: list[int]
) -> None:
    paint(random_painter(), **fields)
    assert rows == expected


def test_the_same_noise_is_guided_however_the_sampler_goes(rows: list[int]) -> None:
    """Karras' steps crowd at the end: what counts is shares of the way, not of the steps."""
    painter = random_painter()
    brief = Brief.of(
        "a cat", seed=1, steps=12, sampler="dpmpp_2m_karras", guidance_start=0.3, guidance_end=0.6
    ).resolve(painter.card)
    levels = painter.levels(brief, redraws=False)[:-1]
    count = len(painter.schedule)
    paint(painter, pictures=1, steps=12, sampler=brief.sampler, guidance_start=0.3, guidance_end=0.6)
    assert rows == [2 if 0.3 < 1 - level.t / count <= 0.6 else 1 for level in levels]
    assert 1 in rows
    assert 2 in rows


def test_an_interval_of_everything_paints_the_same_bytes() -> None:
    painter = random_painter()
    plain = paint(painter)
    assert torch.equal(plain, paint(painter, guidance_start=0.0, guidance_end=1.0))
    assert not torch.equal(plain, paint(painter, guidance_end=0.6))
    alone = paint(painter, guidance=1.0)
    assert torch.equal(alone, paint(painter, guidance_start=0.999, guidance_end=0.9995))


@pytest.mark.parametrize("name", ["stable_diffusion", "ddpm", "imagen", "dalle2", "dalle1", "disco"])
def test_no_family_computes_a_negative_row_at_guidance_1(name: str, rows: list[int]) -> None:
    painter = PAINTERS[name]()
    paint(painter, steps=2, guidance=1.0)
    alone = list(rows)
    rows.clear()
    paint(painter, steps=2, guidance=3.0)
    if name == "disco":  # whose guidance is a gradient, not a row
        assert alone == rows == [2, 2]
        return
    assert rows[0] == 2 * alone[0]
    assert len(alone) == len(rows)
    assert sum(alone) < sum(rows)


@pytest.mark.parametrize("fields", [(0.5, 0.5), (0.8, 0.2), (1.0, 1.0)])
def test_an_empty_interval_is_one_line(fields: tuple[float, float]) -> None:
    start, end = fields
    with pytest.raises(BadBrief, match=f"guidance_start {start:g} is not below guidance_end {end:g}"):
        Brief.of("a cat", guidance_start=start, guidance_end=end)


def test_metadata() -> None:
    brief = Brief.of("a cat", seed=1, guidance_start=0.25, guidance_end=0.75).resolve(CARD)
    assert read_json(write_json(brief, Info())) == (brief, Info())
    assert "CFG start: 0.25, CFG end: 0.75" in write_a1111(brief, Info())
    plain = Brief.of("a cat", seed=1).resolve(CARD)
    assert "CFG start" not in write_a1111(plain, Info())
    old = json.loads(write_json(plain, Info()))
    del old["brief"]["guidance_start"], old["brief"]["guidance_end"]
    assert read_json(json.dumps(old)) == (plain, Info())
