"""A generator against a discriminator (arXiv 1406.2661), with later methods that stabilise their training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Generator, Tensor, nn

from danqing.conditioning.names import Names
from danqing.core.errors import BadData
from danqing.data.captions import STYLE_WORDS
from danqing.data.dataset import CaptionedImages, to_unit
from danqing.nets.latent import Discriminator, Drawn, LatentGenerator, near_sides
from danqing.nets.stylegan import StyleGenerator
from danqing.training.adaptive_augment import augment, next_probability
from danqing.training.adversarial_losses import (
    discriminator_loss,
    generator_loss,
    path_lengths,
    spread,
    squared_gradient,
)
from danqing.training.sheets import sheet_of

_ADAPT_EVERY = 4  # steps
_PATH_DECAY = 0.01  # weight of a new value in the running mean of path lengths


@dataclass(frozen=True)
class GanOptions:
    """What differs between recipes.

    r1: weight of the gradient penalty of the discriminator.
    r1_every: steps between its computations, each of which counts so many times (lazy regularisation,
        arXiv 1912.04958 section 3.1).
    path: weight of the path length penalty of the generator.
    path_every: steps between its computations, likewise.
    drop: share of the pictures whose label is dropped.
    target: mean sign of real logits that augmentation aims at; None trains without adaptive augmentation.
    span: number of pictures in which the augmentation can go from 0 to 1.
    mirror: whether pictures are mirrored at random.
    half_life: number of pictures after which a weight counts half in the average.
    """

    r1: float = 1.0
    r1_every: int = 16
    path: float = 0.0
    path_every: int = 4
    drop: float = 0.1
    target: float | None = 0.6
    span: int = 100_000
    mirror: bool = True
    half_life: int = 5_000


class GanTask(nn.Module):
    """Both networks, their data, and the averaged generator, which is the one that is used for painting.

    All randomness of a step comes from the generator that is passed in. As in arXiv 1912.04958 the
    discriminator learns first; both penalties are added to the loss of their step and get no step of their
    own.

    strength: the probability p of augmentation.
    certainty: the mean sign of real logits since p last changed.
    usual: the running mean of path lengths.

    Raises:
        BadData: there are fewer than two pictures, or their side does not fit the network.
    """

    strength: Tensor
    certainty: Tensor
    usual: Tensor

    def __init__(
        self,
        generator: LatentGenerator,
        discriminator: Discriminator,
        pictures: CaptionedImages,
        names: Names,
        options: GanOptions,
    ) -> None:
        super().__init__()
        _check(pictures, generator.size)
        self.generator, self.discriminator = generator, discriminator
        self.average = deepcopy(generator).eval().requires_grad_(False)
        for name in ("strength", "certainty", "usual"):
            self.register_buffer(name, torch.zeros(()))
        self._pictures, self._options = pictures.pictures, options
        self._labels = names.labels((str(row.get("concept")), str(row.get("style"))) for row in pictures.rows)

    def discriminator_losses(self, size: int, rng: Generator, step: int) -> dict[str, Tensor]:
        """The discriminator's losses: `loss` is the one to minimise, the others are for the log."""
        options = self._options
        real, label = self._real(size, rng)
        with torch.no_grad():
            fake, other = self._fake(size, rng)
        differ = spread(fake, real)
        real, fake_view = self._augment(real, rng), self._augment(fake, rng)
        penalised = options.r1 > 0 and step % options.r1_every == 0
        sure = self.discriminator(real.requires_grad_(penalised), label)
        parts = {"discriminator": discriminator_loss(sure, self.discriminator(fake_view, other))}
        loss = parts["discriminator"]
        if penalised:
            gradient = squared_gradient(sure, real).mean()
            loss = loss + options.r1 / 2 * options.r1_every * gradient
        self._adapt(sure.detach(), step)
        statistics = {"spread": torch.tensor(differ), "augmented": self.strength.clone()}
        return {"loss": loss, **{name: value.detach() for name, value in (parts | statistics).items()}}

    def generator_losses(self, size: int, rng: Generator, step: int) -> dict[str, Tensor]:
        """The generator's losses: `loss` is the one to minimise, the others are for the log.

        The discriminator must be frozen during the call.
        """
        options = self._options
        fake, label = self._fake(size, rng)
        loss = plain = generator_loss(self.discriminator(self._augment(fake, rng), label))
        if options.path > 0 and step % options.path_every == 0:
            loss = loss + options.path * options.path_every * self._path_penalty(max(1, size // 2), rng)
        return {"loss": loss, "generator": plain.detach()}

    @torch.no_grad()
    def follow(self, pictures_so_far: int, batch: int) -> None:
        """Update the average after `pictures_so_far` pictures: weights by half-life, buffers by copy.

        At the start the half-life is a twentieth of the pictures so far, as in the code of arXiv 2006.06676.
        """
        keep = 0.5 ** (batch / max(1.0, min(self._options.half_life, pictures_so_far * 0.05)))
        for mean, now in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            mean.lerp_(now, 1 - keep)
        for copy, buffer in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            copy.copy_(buffer)

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """Pictures of some labels of the data set, painted by the averaged generator from fixed latents."""
        rng = Generator().manual_seed(0)
        drawn = self._there(self.average.draw(32, rng))
        rows = torch.linspace(0, len(self._pictures) - 1, 32).long()
        return sheet_of(self.average.eval()(drawn, self._labels[rows].to(self.usual.device)), columns=8)

    @contextmanager
    def freeze(self) -> Iterator[None]:
        """Turn off gradients of the discriminator's weights inside the context."""
        self.discriminator.requires_grad_(False)
        try:
            yield
        finally:
            self.discriminator.requires_grad_(True)

    def _real(self, size: int, rng: Generator) -> tuple[Tensor, Tensor]:
        picks = torch.randint(len(self._pictures), (size,), generator=rng)
        pixels = to_unit(self._pictures[picks])
        pixels = F.avg_pool2d(pixels, pixels.shape[-1] // self.generator.size)
        return pixels.to(self.usual.device), self._label(picks, rng)

    def _fake(self, size: int, rng: Generator) -> tuple[Tensor, Tensor]:
        picks = torch.randint(len(self._pictures), (size,), generator=rng)
        label = self._label(picks, rng)
        return self.generator(self._there(self.generator.draw(size, rng)), label), label

    def _label(self, picks: Tensor, rng: Generator) -> Tensor:
        keep = torch.rand(len(picks), 1, generator=rng) >= self._options.drop
        return (self._labels[picks] * keep).to(self.usual.device)

    def _there(self, drawn: Drawn) -> Drawn:
        return {name: value.to(self.usual.device) for name, value in drawn.items()}

    def _augment(self, pixels: Tensor, rng: Generator) -> Tensor:
        if self._options.target is None:
            return pixels
        return augment(pixels, float(self.strength), rng, mirror=self._options.mirror)

    def _adapt(self, sure: Tensor, step: int) -> None:
        target, span = self._options.target, self._options.span
        if target is None:
            return
        self.certainty += sure.sign().mean() / _ADAPT_EVERY
        if (step + 1) % _ADAPT_EVERY == 0:
            pictures_so_far, sign = len(sure) * _ADAPT_EVERY, float(self.certainty)
            self.strength.fill_(
                next_probability(float(self.strength), sign, pictures_so_far, target=target, span=span)
            )
            self.certainty.zero_()

    def _path_penalty(self, size: int, rng: Generator) -> Tensor:
        """The squared difference of path lengths from their running mean."""
        assert isinstance(self.generator, StyleGenerator), "only styles have path lengths"
        picks = torch.randint(len(self._pictures), (size,), generator=rng)
        label, drawn = self._label(picks, rng), self._there(self.generator.draw(size, rng))
        ws = self.generator.styles(drawn, label)
        noise = [drawn[f"noise{k}"] for k in range(len(self.generator.synthesis.sides))]
        pixels = self.generator.synthesis(ws, noise)
        lengths = path_lengths(pixels, ws, torch.randn(pixels.shape, generator=rng).to(pixels))
        self.usual.lerp_(lengths.detach().mean(), _PATH_DECAY)
        return (lengths - self.usual).square().mean()


def names_of(pictures: CaptionedImages) -> Names:
    """The concepts and styles of a data set, in English and Chinese where its rows have both."""
    rows = [row for row in pictures.rows if row.get("concept") and row.get("style")]
    concepts = sorted({(str(row["concept"]), str(row.get("concept_zh") or row["concept"])) for row in rows})
    styles = [(style, *STYLE_WORDS.get(style, ())) for style in sorted({str(row["style"]) for row in rows})]
    return Names(tuple("/".join(dict.fromkeys(synonyms)) for synonyms in [*concepts, *styles]))


def _check(pictures: CaptionedImages, size: int) -> None:
    count, (height, width) = len(pictures), pictures.pictures.shape[-2:]
    if count < 2:
        raise BadData(f"{count} picture is too few: a discriminator needs at least 2")
    if height != width or width % size or width & (width - 1):
        fit = " or ".join(near_sides(width, least=size))
        raise BadData(
            f"pictures of {width} x {height} pixels do not fit a network of {size}, whose sides are halved: "
            f"resize them to {fit} pixels square"
        )
