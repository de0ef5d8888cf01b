"""The base class of painters of GANs, which paint from a latent vector, and their folder.

A folder has card.json, config.json (the config of the generator and its class names) and model.safetensors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from danqing.conditioning.names import Names
from danqing.core.brief import ResolvedBrief
from danqing.core.card import Can, Card, find_card
from danqing.core.errors import BadBrief, BadWeights, NotFinite
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages
from danqing.core.seeds import Seeds
from danqing.nets.gan import GanGenerator
from danqing.nets.latent import current_key
from danqing.nets.placement import device_of, move
from danqing.nets.stylegan import StyleGenerator
from danqing.weights.pretrained import (
    Config,
    read_json,
    read_module,
    replacing_folder,
    write_json,
    write_module,
)

Network = TypeVar("Network", GanGenerator, StyleGenerator)
_STEM = "model"


@dataclass(eq=False)
class LatentPainter(ABC, Generic[Network]):
    """Paints a square picture of one size in one pass from a latent z; it has no guidance and no samplers.

    card: the card of the model.
    generator: the network.
    names: the class names of its labels.
    """

    card: Card
    generator: Network
    names: Names

    def __post_init__(self) -> None:
        self.generator.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """The device of its generator."""
        return device_of(self.generator)

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """See `Painter.place`."""
        move(device, dtype, self.generator)

    @abstractmethod
    def condition(self, brief: ResolvedBrief, images: InputImages = NO_IMAGES) -> Conditioning:
        """See `Painter.condition`."""

    @abstractmethod
    def steps(self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """See `Painter.steps`."""

    def begin(self, brief: ResolvedBrief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        """Draw a standard normal z, as a state [n latent 1 1].

        Raises:
            BadBrief: the size is not that of the network.
        """
        side = self.generator.size
        if (brief.width, brief.height) != (side, side):
            raise BadBrief(
                f"model {self.card.name!r} paints {side}x{side} only, not {brief.width}x{brief.height}: "
                "leave the size out"
            )
        z = seeds.normal(self.generator.config.latent)
        return Canvas(z[:, :, None, None].to(conditioning.tokens), seeds, 0, self._count(brief, conditioning))

    def preview(self, canvas: Canvas) -> Tensor:
        """The current picture, [n 3 h w] in [0, 1]; white before the first step."""
        if canvas.step == 0:
            return torch.ones(len(canvas.state), 3, self.generator.size, self.generator.size)
        return (canvas.state[:, :3] + 1).div(2).clamp(0, 1).cpu()

    def finish(self, canvas: Canvas) -> Tensor:
        """The pictures [n c h w], clipped to [-1, 1].

        Raises:
            NotFinite: the canvas holds NaN or infinite values.
        """
        if not canvas.state.isfinite().all():
            raise NotFinite(
                f"step {canvas.step} of {canvas.of} gave NaN or infinite values: check the weights"
            )
        return canvas.state.clamp(-1, 1).cpu()

    def upscale(self, pixels: Tensor) -> Tensor:
        """The pictures unchanged, because there is no learned upscaler."""
        return pixels

    def _count(self, _brief: ResolvedBrief, _conditioning: Conditioning) -> int:
        """The number of steps."""
        return 1

    def _next_canvas(self, canvas: Canvas, pixels: Tensor) -> Canvas:
        """The canvas of the next step."""
        moved = replace(canvas, state=pixels, step=canvas.step + 1)
        self.finish(moved)  # raises for NaN, with this step in the message
        return moved


def card_of(name: str, family: str, generator: GanGenerator | StyleGenerator, **fields: Any) -> Card:
    """A card with all fields that follow from the network."""
    alpha = {Can.ALPHA} if generator.config.channels == 4 else set()
    words = {Can.WORDS} if generator.labels else set()
    side = generator.size
    facts: dict[str, Any] = {
        "can": alpha | words,
        "steps": 1,
        "guidance": 1.0,
        "sampler": "",
        "prompt_type": "names it knows",
        "licence": "Apache-2.0",
        **fields,
    }
    return Card(name=name, family=family, width=side, height=side, size_multiple=side, **facts)


def read_latent(
    folder: Path, build: Callable[[Config], Network], derived: Callable[[str, Network], Card]
) -> tuple[Card, Network, Names]:
    """Read a folder that `save_latent` wrote.

    build: config -> the network.
    derived: (name of the folder, network) -> a card, for a folder without one.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    entries = read_json(folder / "config.json").get("names", [])
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise BadWeights(f"{str(folder / 'config.json')!r}: names is no list of words: fetch it again")
    network = read_module(
        folder, lambda config: build({k: v for k, v in config.items() if k != "names"}), current_key
    )
    if len(entries) != network.labels:
        raise BadWeights(
            f"{str(folder / 'config.json')!r} has {len(entries)} names, the network knows {network.labels}"
        )
    card = find_card(folder) or derived(folder.name, network)
    return card, network, Names(tuple(entries))


def save_latent(painter: LatentPainter[Any], folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the painter's folder, completely or not at all.

    Raises:
        BadWeights: a value does not fit into `dtype`.
        DanqingError: the folder cannot be written.
    """
    config = {**painter.generator.to_config(), "names": list(painter.names.entries)}
    with replacing_folder(folder) as draft:
        write_module(painter.generator, config, draft, _STEM, dtype)
        write_json(painter.card.model_dump(mode="json"), draft / "card.json")
