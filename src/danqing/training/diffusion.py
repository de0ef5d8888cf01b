"""Training the denoiser of a diffusion model, of pixels or of latents (arXiv 2112.10752 eq. 3).

The condition is dropped at random, for classifier-free guidance.

Times are logit-normal (arXiv 2403.03206 section 3.1), since shapes are decided at middle noise, with a
uniform share so that no time goes untrained. Error in v on a cosine schedule needs no further weight: it is
the x_0 error times (snr + 1), which treats all middle times alike; `gamma` switches min-SNR on instead.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import ModelMixin, UNet2DConditionModel
from PIL import Image
from torch import Generator, Tensor, nn

from danqing.conditioning.names import Names
from danqing.conditioning.text import TextEncoder
from danqing.core.brief import Brief
from danqing.core.errors import BadData
from danqing.core.painter import Conditioning, Painter
from danqing.core.seeds import Seeds
from danqing.data import captions
from danqing.data.dataset import CaptionedImages, to_unit
from danqing.diffusion.loss import denoising_error
from danqing.diffusion.painter import DiffusionPainter
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of

MARGINS = ((1, 0), (0, 1))  # (taller, wider) of the canvases that are not square


@dataclass(frozen=True)
class DiffusionOptions:
    """What varies between recipes. Shares and probabilities are in [0, 1]."""

    drop: float = 0.1  # captions replaced by "", for classifier-free guidance
    unstyled: float = 0.1  # captions that do not name the style
    mirror: float = 0.0  # pictures that are mirrored
    # batches of pictures with transparent margins that make them half as wide or as high again
    wide: float = 0.0
    scenes: float = 0.36  # scenes among the pictures, if there are both scenes and others
    synonyms: float = 0.1  # captions that name the thing by a synonym
    rehearsal: float | None = None  # rows marked "learned" among the drawings; None draws all drawings alike
    uniform: float = 0.2  # times drawn uniformly instead of logit-normally
    gamma: float | None = None  # cap of the min-SNR weight, arXiv 2303.09556; None for no weight
    probes: tuple[str, ...] = ("a cat, 3d style", "a red apple, cartoon style", "一只兔子，剪纸风格")


class Conditioner(Protocol):
    """Provides the condition of each training picture: captions, labels or other pictures."""

    def place(self, device: torch.device, /) -> None:
        """Move the frozen networks that `conditioning` needs."""
        ...

    def draw(self, picks: Tensor, latents: Tensor, rng: Generator) -> Batch:
        """Make all random choices. picks: indices of pictures, int64 [n]; latents: theirs, [n c h w]."""
        ...

    def conditioning(self, batch: Batch) -> Conditioning:
        """Encode what `draw` returned as the conditioning of n pictures. Called without gradients."""
        ...


class Captions:
    """English and Chinese captions, at times without the style, or empty."""

    def __init__(self, text: TextEncoder, pictures: CaptionedImages, options: DiffusionOptions) -> None:
        self._text, self._rows, self._options = text, pictures.rows, options
        self._shares = captions.Shares(synonym=options.synonyms, unstyled=options.unstyled)

    def place(self, device: torch.device) -> None:
        """Move the text encoder."""
        self._text.place(device)

    def draw(self, picks: Tensor, latents: Tensor, rng: Generator) -> Batch:  # noqa: ARG002  see Conditioner
        """Token ids of random captions, int64 [n l]."""
        ids = self._text.tokenizer(
            self.captions_of(picks, rng),
            padding="max_length",
            truncation=True,
            max_length=self._text.max_length,
            return_tensors="pt",
        )["input_ids"]
        return {"ids": ids}

    def conditioning(self, batch: Batch) -> Conditioning:
        """Encode the captions."""
        return Conditioning(self._text.states(batch["ids"]))

    def captions_of(self, picks: Tensor, rng: Generator) -> list[str]:
        """A random caption for each picture."""
        words = random.Random(int(torch.randint(2**31, (), generator=rng)))
        return [self._caption(self._rows[i], words) for i in picks.tolist()]

    def _caption(self, row: dict[str, object], words: random.Random) -> str:
        if words.random() < self._options.drop:
            return ""
        language = "en" if words.random() < 0.5 else "zh"
        return captions.caption_of(row, language, words, self._shares)


class Labels:
    """Class labels: the concept and the style of each picture, at times only the concept, or none."""

    def __init__(self, names: Names, pictures: CaptionedImages, options: DiffusionOptions) -> None:
        self._options = options
        pairs = [(str(row.get("concept")), str(row.get("style"))) for row in pictures.rows]
        self._full, self._plain = names.labels(pairs), names.labels([concept] for concept, _ in pairs)

    def place(self, _device: torch.device, /) -> None:
        """Do nothing: labels need no network."""

    def draw(self, picks: Tensor, latents: Tensor, rng: Generator) -> Batch:  # noqa: ARG002  see Conditioner
        """Random labels, int64 [n k]."""
        keep, unstyled = torch.rand(2, len(picks), 1, generator=rng)
        label = torch.where(unstyled < self._options.unstyled, self._plain[picks], self._full[picks])
        return {"label": label * (keep >= self._options.drop)}

    def conditioning(self, batch: Batch) -> Conditioning:
        """The labels as `Names` encodes them."""
        return Conditioning(batch["label"][:, None])


class DenoisingObjective(Objective):
    """Trains the network of any diffusion painter with the conditions that `conditioner` provides.

    unet: the module inside `painter.network` to train; the VAE and `conditioner` stay frozen.

    The latents of all pictures, and of their mirror images if needed, are computed once; those of wider
    canvases each time that they are drawn.

    Raises:
        BadData: the pictures' side is not a multiple of the painter's.
    """

    def __init__(
        self,
        painter: DiffusionPainter,
        unet: nn.Module,
        pictures: CaptionedImages,
        conditioner: Conditioner,
        options: DiffusionOptions,
    ) -> None:
        super().__init__()
        self.unet = unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.painter = painter
        self._conditioner, self._options = conditioner, options
        _check_side(painter, pictures.pictures)
        views = [pictures.pictures] + ([pictures.pictures.flip(-1)] if options.mirror else [])
        self._latents = [_encode(painter, view) for view in views]
        self._pictures = pictures.pictures
        self._kinds = _kinds(pictures.rows, options)

    def place(self, device: torch.device) -> None:
        """Move the whole painter: VAE and text encoder run at every step."""
        super().place(device)
        self.painter.place(device)
        self._conditioner.place(device)

    def batch(self, size: int, rng: Generator) -> Batch:
        """Latents, their condition, times and noise."""
        picks, latents = self._draw(size, rng)
        conditioner = self._conditioner.draw(picks, latents, rng)
        times = self._times(size, rng)
        noise = torch.randn(latents.shape, generator=rng)
        return {"latents": latents, **conditioner, "t": times, "noise": noise}

    def _draw(self, size: int, rng: Generator) -> tuple[Tensor, Tensor]:
        """Indices of pictures, int64 [n], and the latents [n c h w] to learn from."""
        picks = self._pick(size, rng)
        mirrored = (torch.rand(size, generator=rng) < self._options.mirror).view(-1, 1, 1, 1)
        if self._options.wide and torch.rand((), generator=rng) < self._options.wide:
            sides = MARGINS[int(torch.randint(len(MARGINS), (), generator=rng))]
            pictures = _wider(self._pictures[picks], *sides)
            return picks, _encode(self.painter, torch.where(mirrored, pictures.flip(-1), pictures))
        return picks, torch.where(mirrored, self._latents[-1][picks], self._latents[0][picks])

    def _pick(self, size: int, rng: Generator) -> Tensor:
        """Indices of pictures, int64 [size]: each kind gets its share, however many pictures it has."""
        drawn = [kind[torch.randint(len(kind), (size,), generator=rng)] for _, kind in self._kinds]
        if len(drawn) == 1:
            return drawn[0]
        shares = torch.tensor([share for share, _ in self._kinds])
        kinds = torch.multinomial(shares, size, replacement=True, generator=rng)
        return torch.stack(drawn).gather(0, kinds[None])[0]

    def _times(self, size: int, rng: Generator) -> Tensor:
        logit_normal = torch.sigmoid(torch.randn(size, generator=rng))
        uniform = torch.rand(size, generator=rng)
        u = torch.where(torch.rand(size, generator=rng) < self._options.uniform, uniform, logit_normal)
        steps = len(self.painter.schedule)
        return (u * steps).long().clamp(max=steps - 1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The squared error of the network's output against its target; see `denoising_error`."""
        with torch.no_grad():
            words = self._conditioner.conditioning(batch)
        error = denoising_error(
            self.painter, batch["latents"], words, batch["t"], batch["noise"], self._options.gamma
        )
        return {"loss": error.mean()}

    def sheet(self) -> Image.Image:
        """Pictures of the probe captions, two each, painted with the defaults of the painter's card."""
        pictures = [paint_pixels(self.painter, words, Seeds([0, 1])) for words in self._options.probes]
        return sheet_of(torch.cat(pictures), columns=8)

    def export(self, folder: Path) -> None:
        """Write the UNet as a diffusers component."""
        assert isinstance(self.unet, ModelMixin), "a network of ours writes itself"
        self.unet.save_pretrained(folder)


class DiffusionObjective(DenoisingObjective):
    """Trains a painter that is conditioned on captions through a text encoder.

    Raises:
        BadData: captions are missing or all the same, or the network cannot take the pictures' size.
    """

    def __init__(
        self,
        painter: DiffusionPainter,
        unet: UNet2DConditionModel,
        pictures: CaptionedImages,
        options: DiffusionOptions,
    ) -> None:
        pictures.check_captions()
        assert isinstance(painter.text, TextEncoder)
        super().__init__(painter, unet, pictures, Captions(painter.text, pictures, options), options)


@torch.no_grad()
def with_more_channels(unet: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """A copy for latents of more channels: it denoises the first ones as before, the new ones not yet."""
    old = unet.config.in_channels
    wide = UNet2DConditionModel.from_config(
        {**unet.config, "in_channels": channels, "out_channels": channels}
    )
    weights = wide.state_dict()
    for name, value in unet.state_dict().items():
        if weights[name].shape == value.shape:
            weights[name].copy_(value)
    for conv in (wide.conv_in, wide.conv_out):
        torch.nn.init.zeros_(conv.weight)
    wide.conv_in.weight[:, :old] = unet.conv_in.weight
    wide.conv_out.weight[:old] = unet.conv_out.weight
    torch.nn.init.zeros_(wide.conv_out.bias)
    wide.conv_out.bias[:old] = unet.conv_out.bias
    return wide


def _kinds(rows: Sequence[Mapping[str, object]], options: DiffusionOptions) -> list[tuple[float, Tensor]]:
    """(share, indices of pictures) of new drawings, of drawings learned before, and of scenes.

    There are more scenes than drawings, so without shares they would dominate training.
    """
    scenes = torch.tensor(["phrase" in row for row in rows])
    learned = torch.tensor([options.rehearsal is not None and bool(row.get("learned")) for row in rows])
    before = options.rehearsal or 0.0
    kinds = (
        ((1 - options.scenes) * (1 - before), ~scenes & ~learned),
        ((1 - options.scenes) * before, ~scenes & learned),
        (options.scenes, scenes),
    )
    return [(share, which.nonzero()[:, 0]) for share, which in kinds if bool(which.any())]


def paint_pixels(painter: Painter, words: str, seeds: Seeds) -> Tensor:
    """Native pictures [n c h w] in [-1, 1] for one prompt, with the defaults of the painter's card."""
    brief = Brief(prompt=words, seed=seeds.seeds[0], native=True).resolve(painter.card)
    conditioning = painter.condition(brief)
    *_, last = painter.steps(brief, conditioning, painter.begin(brief, conditioning, seeds))
    return painter.finish(last)


def _check_side(painter: DiffusionPainter, pictures: Tensor) -> None:
    height, width = pictures.shape[-2:]
    native = painter.card.width
    if height != width or width % native:
        raise BadData(
            f"pictures of {width} x {height} pixels do not fit a painter of {native} x {native}: "
            f"resize them to {native} pixels square, or a multiple"
        )


def _encode(painter: DiffusionPainter, pictures: Tensor) -> Tensor:
    """The latents [n c h w] of pictures uint8 [n 4 h w], reduced to the native size of the shorter side."""
    factor = min(pictures.shape[-2:]) // painter.card.width
    parts = (_downsample(to_unit(part), factor) for part in torch.split(pictures, 32))
    return torch.cat([painter.vae.encode(part).cpu() for part in parts])


def _wider(pictures: Tensor, more_high: int, more_wide: int) -> Tensor:
    """Pictures [n 4 h w] with transparent margins of a quarter of the side, as `MARGINS` asks."""
    right, down = (
        side // 4 * more for side, more in zip(pictures.shape[:1:-1], (more_wide, more_high), strict=True)
    )
    colour, alpha = pictures[:, :3], pictures[:, 3:]
    around = (right, right, down, down)
    return torch.cat([F.pad(colour, around, value=255), F.pad(alpha, around, value=0)], dim=1)


def _downsample(pixels: Tensor, factor: int) -> Tensor:
    """Downsample by whole factors; each pixel is the mean of those that it replaces."""
    return pixels if factor == 1 else F.avg_pool2d(pixels, factor)
