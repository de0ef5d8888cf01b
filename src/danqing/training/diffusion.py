"""Training the denoiser of a diffusion model, of pixels or of latents (arXiv 2112.10752 eq. 3).

The condition is left out now and then, for classifier-free guidance.

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

MARGINS = ((1, 0), (0, 1))  # (more high, more wide) of the canvases that are not square


@dataclass(frozen=True)
class DiffusionOptions:
    """What varies between recipes. Shares and probabilities are in [0, 1]."""

    drop: float = 0.1  # captions replaced by "", for classifier-free guidance
    unstyled: float = 0.1  # captions that do not name the style
    mirror: float = 0.0  # pictures mirrored
    wide: float = 0.0  # batches on canvases half as wide or half as high again, around transparent pictures
    scenes: float = 0.36  # pictures that are scenes, where there are scenes and others
    synonyms: float = 0.1  # captions that call the thing by another word
    rehearsal: float | None = None  # drawings of what was "learned" before; None draws all drawings alike
    uniform: float = 0.2  # times drawn uniformly instead of logit-normally
    gamma: float | None = None  # min-SNR, arXiv 2303.09556
    probes: tuple[str, ...] = ("a cat, 3d style", "a red apple, cartoon style", "一只兔子，剪纸风格")


class Conditioner(Protocol):
    """What a network learns of its pictures besides their latents: words, names, other pictures."""

    def place(self, device: torch.device, /) -> None:
        """Move the frozen networks that `conditioning` needs."""
        ...

    def draw(self, picks: Tensor, latents: Tensor, rng: Generator) -> Batch:
        """Everything random about it: picks int64 [n] of the data set, whose latents are [n c h w]."""
        ...

    def conditioning(self, batch: Batch) -> Conditioning:
        """What `draw` drew, as the network's words for n pictures. Called without gradients."""
        ...


class Captions:
    """English and Chinese words for each picture, at times without its style, or none at all."""

    def __init__(self, text: TextEncoder, pictures: CaptionedImages, options: DiffusionOptions) -> None:
        self._text, self._rows, self._options = text, pictures.rows, options
        self._shares = captions.Shares(synonym=options.synonyms, unstyled=options.unstyled)

    def place(self, device: torch.device) -> None:
        """Move the text encoder."""
        self._text.place(device)

    def draw(self, picks: Tensor, latents: Tensor, rng: Generator) -> Batch:  # noqa: ARG002  see Conditioner
        """The tokens of a random caption, int64 [n l]."""
        ids = self._text.tokenizer(
            self.captions_of(picks, rng),
            padding="max_length",
            truncation=True,
            max_length=self._text.max_length,
            return_tensors="pt",
        )["input_ids"]
        return {"ids": ids}

    def conditioning(self, batch: Batch) -> Conditioning:
        """The token states of the captions."""
        return Conditioning(self._text.states(batch["ids"]))

    def captions_of(self, picks: Tensor, rng: Generator) -> list[str]:
        """A random caption of each picture."""
        words = random.Random(int(torch.randint(2**31, (), generator=rng)))
        return [self._caption(self._rows[i], words) for i in picks.tolist()]

    def _caption(self, row: dict[str, object], words: random.Random) -> str:
        if words.random() < self._options.drop:
            return ""
        language = "en" if words.random() < 0.5 else "zh"
        return captions.caption_of(row, language, words, self._shares)


class Labels:
    """The names of each picture, its concept and its style, as a label; at times only the former, or none."""

    def __init__(self, names: Names, pictures: CaptionedImages, options: DiffusionOptions) -> None:
        self._options = options
        pairs = [(str(row.get("concept")), str(row.get("style"))) for row in pictures.rows]
        self._full, self._plain = names.labels(pairs), names.labels([concept] for concept, _ in pairs)

    def place(self, _device: torch.device, /) -> None:
        """Nothing to move: labels come with the batch."""

    def draw(self, picks: Tensor, latents: Tensor, rng: Generator) -> Batch:  # noqa: ARG002  see Conditioner
        """Labels [n k]."""
        keep, unstyled = torch.rand(2, len(picks), 1, generator=rng)
        label = torch.where(unstyled < self._options.unstyled, self._plain[picks], self._full[picks])
        return {"label": label * (keep >= self._options.drop)}

    def conditioning(self, batch: Batch) -> Conditioning:
        """The labels as `Names` gives them."""
        return Conditioning(batch["label"][:, None])


class DenoisingObjective(Objective):
    """Trains the network of any diffusion painter, on what `conditioner` says of each picture.

    unet: the module inside `painter.network` that learns; the VAE and `conditioner` stay frozen.

    The latents of all pictures, and of their mirror images if those are asked for, are computed once; those
    of wider canvases when they are drawn.

    Raises:
        BadData: the pictures' side is no multiple of the painter's.
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
        """The whole painter: VAE and text encoder run at every step."""
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
        """Numbers of pictures, int64 [n], and the latents [n c h w] to learn from."""
        picks = self._pick(size, rng)
        mirrored = (torch.rand(size, generator=rng) < self._options.mirror).view(-1, 1, 1, 1)
        if self._options.wide and torch.rand((), generator=rng) < self._options.wide:
            sides = MARGINS[int(torch.randint(len(MARGINS), (), generator=rng))]
            pictures = _wider(self._pictures[picks], *sides)
            return picks, _encode(self.painter, torch.where(mirrored, pictures.flip(-1), pictures))
        return picks, torch.where(mirrored, self._latents[-1][picks], self._latents[0][picks])

    def _pick(self, size: int, rng: Generator) -> Tensor:
        """Numbers of pictures, int64 [size]: each kind has its share, however many pictures it has."""
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
        """The probe captions, two pictures each, by the painter itself at its defaults."""
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
    """A copy for latents of more channels: the first ones are denoised as before, the new ones not yet."""
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
    """(share, numbers of pictures) of drawings of new things, of drawings learned before, and of scenes.

    Scenes outnumber the drawings that they are made of, and would hide them.
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
    """Native pictures [n c h w] in [-1, 1] for one prompt, at the defaults of the painter's card."""
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
    """The latents [n c h w] of pictures uint8 [n 4 h w], the shorter side reduced to the painter's native."""
    factor = min(pictures.shape[-2:]) // painter.card.width
    parts = (_downsample(to_unit(part), factor) for part in torch.split(pictures, 32))
    return torch.cat([painter.vae.encode(part).cpu() for part in parts])


def _wider(pictures: Tensor, more_high: int, more_wide: int) -> Tensor:
    """Pictures [n 4 h w] in the middle of a transparent canvas, a quarter larger on the sides asked for."""
    right, down = (
        side // 4 * more for side, more in zip(pictures.shape[:1:-1], (more_wide, more_high), strict=True)
    )
    colour, alpha = pictures[:, :3], pictures[:, 3:]
    around = (right, right, down, down)
    return torch.cat([F.pad(colour, around, value=255), F.pad(alpha, around, value=0)], dim=1)


def _downsample(pixels: Tensor, factor: int) -> Tensor:
    """By whole factors, each pixel the mean of those it takes the place of."""
    return pixels if factor == 1 else F.avg_pool2d(pixels, factor)
