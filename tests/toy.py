"""A painter of discs: the whole protocol in plain arithmetic, for tests of what stands above painters."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from danqing.core.brief import Brief
from danqing.core.card import Can, Card
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages
from danqing.core.seeds import Seeds

CARD = Card(
    name="toy",
    family="toy",
    summary="discs of one colour",
    paper="0000.00000",
    year=2025,
    licence="Apache-2.0",
    width=16,
    height=16,
    size_multiple=8,
    scale=2,
    steps=3,
    can=frozenset({Can.WORDS, Can.NEGATIVE, Can.ALPHA, Can.UPSCALE, Can.TILE}),
    styles={"3d": "3d/立体", "paper-cut": "paper cut/剪纸"},
)


class Toy:
    """Colour comes from the seed; words after the eighth are dropped; the word "nan" breaks the numbers."""

    def __init__(self, card: Card = CARD, channels: int = 4) -> None:
        self.card, self.channels = card, channels

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """It has no networks."""

    def condition(self, brief: Brief, images: InputImages = NO_IMAGES) -> Conditioning:
        words = brief.prompt.split()
        return Conditioning(
            torch.full((1, 1, 1), float(len(words))),
            image=images.image,
            region=images.region,
            dropped=" ".join(words[8:]),
        )

    def begin(self, brief: Brief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        assert len(conditioning) == 1
        assert brief.width
        assert brief.height
        assert brief.steps
        scale = 1 if brief.native else self.card.scale
        shape = (self.channels, brief.height // scale, brief.width // scale)
        colour = seeds.normal(self.channels, 1, 1).expand(-1, *shape).clamp(-1, 1).clone()
        colour[:, 3:] = -1
        colour[:, 3:, 4:-4, 4:-4] = 1  # opaque in the middle
        colour[:, :3] = torch.where(colour[:, 3:] > 0, colour[:, :3], 1.0) if self.channels == 4 else colour
        return Canvas(colour * (float("nan") if "nan" in brief.prompt else 1), seeds, 0, brief.steps)

    def steps(self, brief: Brief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        assert brief.steps == canvas.of
        assert len(conditioning) == 1
        for step in range(1, canvas.of + 1):
            time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
            yield replace(canvas, step=step)

    def preview(self, canvas: Canvas) -> Tensor:
        return canvas.state[:, :3] / 2 + 0.5

    def finish(self, canvas: Canvas) -> Tensor:
        return canvas.state

    def upscale(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(pixels, scale_factor=self.card.scale, mode="nearest")


def open_painter(name: str, *_: object) -> Toy:
    return Toy(Card.model_validate_json((Path(name) / "card.json").read_text()))


def write_card(folder: Path, card: Card = CARD) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(card.model_dump_json())
    return folder
