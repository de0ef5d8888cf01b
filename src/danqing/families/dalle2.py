"""DALL-E 2 (unCLIP): words become the CLIP embedding of a picture, and the embedding becomes the picture.

Paper: Ramesh et al., Hierarchical Text-Conditional Image Generation with CLIP Latents, arXiv 2204.06125.
Differs: small, paints RGBA; the decoder predicts v and sees pictures folded, as `ddpm` does. A given picture
is heard as its embedding and painted anew rather than over: a brief's strength is how far to leave it, in the
noise that DDIM finds for it and, half as far, in its embedding, which the words turn (text diff). Several
pictures are mixed along great circles.
Licences: code Apache-2.0; weights are whoever trained them's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import PriorTransformer, UNet2DConditionModel
from torch import Tensor

from danqing.conditioning.encode import encode
from danqing.conditioning.prompt import unwanted, words
from danqing.core.brief import Brief
from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief, BadWeights
from danqing.core.painter import NOTHING, Canvas, Conditioning, Given
from danqing.core.registry import family
from danqing.core.seeds import Seeds, slerp
from danqing.diffusion.codec import IdentityCodec
from danqing.diffusion.inversion import invert
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.prior import Prior, PriorOptions, best, measure
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.thresholding import clamped
from danqing.diffusion.variance import Variance
from danqing.families._clip_space import Space, joined, mixture, text_diff
from danqing.families._unclip import (
    DECODER_SCHEDULE,
    DECODERS,
    FOLDS,
    PRIOR_SCHEDULE,
    PRIORS,
    Decoder,
    Parts,
    check_clip,
    fresh_projection,
    read_parts,
)
from danqing.families._unclip import save_parts as save_parts
from danqing.families._zoo import open_critic
from danqing.families.clip import Critic, build_clip
from danqing.families.stable_diffusion import byte_tokenizer

TEXT_DIFF = 0.5  # how far words turn a given picture at strength 1: section 3.3 goes from 0.25 to 0.5


@dataclass(eq=False)
class Dalle2Painter:
    """First the prior's steps, on blank canvases, then the decoder's.

    decoder: its network is a `Decoder`, told the embedding as the first of all tokens.
    """

    card: Card
    space: Space
    prior: Prior
    decoder: DiffusionPainter

    def __post_init__(self) -> None:
        wants, has = self.prior.width, self.space.width
        if wants != has:
            raise BadWeights(
                f"the prior speaks embeddings of {wants} numbers, this CLIP has {has}: use the CLIP that it "
                "learned with"
            )

    def condition(self, brief: Brief, given: Given = NOTHING) -> Conditioning:
        """The words; of given pictures, their embedding as `beside` [1 d 1 1] and their noise as `image`.

        The noise is found only where some of it is kept: at a strength below 1.

        Raises:
            BadBrief: words or steps that cannot be followed.
        """
        said = encode(self.space, words(brief, self.card), unwanted(brief), steps=1)
        said = self._joined(said)
        pictures = given.references or (() if given.image is None else (given.image,))
        if not pictures:
            return said
        seen = [self.space.look(picture) for picture in pictures]
        weights = given.weights or (1.0,) * len(seen)
        z = mixture(seen, weights)
        if not given.references:
            before = torch.zeros_like(z) if said.negative is None else said.negative.tokens[:, -1]
            z = text_diff(z, _whole(said), before, TEXT_DIFF * _strength(brief))
        noise = None
        if _strength(brief) < 1:
            each = zip(pictures, seen, strict=True)
            noise = mixture([self._noise(brief, told_of(said, z), picture) for picture, z in each], weights)
        return replace(said, image=noise, beside=z[:, :, None, None])

    def begin(self, brief: Brief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        """Noise for the decoder, or between that of the given picture and new one, by strength.

        Raises:
            BadBrief: another size than the decoder's, an unknown sampler, or steps that the schedule lacks.
        """
        side = self.card.width * (1 if brief.native else self.card.scale)
        if (brief.width, brief.height) != (side, side):
            raise BadBrief(
                f"model {self.card.name!r} paints {side}x{side} only, not {brief.width}x{brief.height}: "
                "leave the size out"
            )
        canvas = self.decoder.begin(brief, replace(conditioning, image=None), seeds)
        before = 0 if conditioning.beside is not None else self.prior.options.steps
        state = canvas.state
        if conditioning.image is not None:
            state = slerp(conditioning.image.expand_as(state), state, _strength(brief))
        return replace(canvas, state=state, of=before + canvas.of)

    def steps(self, brief: Brief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """One canvas for each step of the prior, still white, and one for each of the decoder.

        Raises:
            NotFinite: naming the step at which NaN or infinite values appeared.
        """
        n, done = len(canvas.seeds), 0
        if conditioning.beside is not None:
            z = conditioning.beside.flatten(1).expand(n, -1)
        else:
            plain = replace(conditioning, image=None)
            for done, drawn in enumerate(self.prior.walk(plain, canvas.seeds), start=1):  # noqa: B007
                yield replace(canvas, state=torch.ones_like(canvas.state), step=done)
            z = best(self.space.sized(drawn), _whole(conditioning).expand(n, -1))
        told = told_of(conditioning.expand(n), z)
        alone = replace(canvas, of=canvas.of - done)
        for moved in self.decoder.steps(brief, told, alone):
            yield replace(moved, step=done + moved.step, of=canvas.of)

    def preview(self, canvas: Canvas) -> Tensor:
        """The picture as far as it is clear, [n 3 h w] in [0, 1]."""
        return self.decoder.preview(canvas)

    def finish(self, canvas: Canvas) -> Tensor:
        """The pictures [n c h w], clipped to [-1, 1].

        Raises:
            NotFinite: the canvas holds NaN or infinite values.
        """
        return self.decoder.finish(canvas)

    def enlarge(self, pixels: Tensor) -> Tensor:
        """`card.scale` times larger, [n c h w] in [-1, 1]."""
        return self.decoder.enlarge(pixels)

    def _joined(self, said: Conditioning) -> Conditioning:
        length = self.prior.length + 1

        def alone(part: Conditioning) -> Conditioning:
            negative = None if part.negative is None else joined(part.negative, length)
            return replace(joined(part, length), negative=negative)

        return said.each(alone)

    def _noise(self, brief: Brief, told: Conditioning, picture: Tensor) -> Tensor:
        """What DDIM paints the picture from when it is told that, [1 c h w]: the x_T of section 3."""
        assert brief.steps is not None, "settle the brief first"
        levels = self.decoder.schedule.levels(brief.steps)
        return invert(self.decoder, self.decoder.codec.encode(picture), told, levels, mend=1)


def told_of(said: Conditioning, z: Tensor) -> Conditioning:
    """What a `Decoder` is told: embeddings [n d] before words for n pictures, none before negative ones."""

    def led(part: Conditioning) -> Conditioning:
        negative = None if part.negative is None else _led(part.negative, torch.zeros_like(z), heard=False)
        return replace(_led(part, z, heard=True), negative=negative, image=None, beside=None)

    return said.each(led)


def _led(part: Conditioning, z: Tensor, *, heard: bool) -> Conditioning:
    mask = torch.ones_like(part.tokens[..., 0], dtype=torch.bool) if part.mask is None else part.mask
    first = torch.full_like(mask[:, :1], heard)
    return replace(
        part, tokens=torch.cat([z[:, None], part.tokens], dim=1), mask=torch.cat([first, mask], dim=1)
    )


def _whole(said: Conditioning) -> Tensor:
    """The embedding [n d] of all that is said, parts by their weights."""
    return torch.stack([part.weights[:, None] * part.tokens[:, -1] for part in said.parts]).sum(dim=0)


def _strength(brief: Brief) -> float:
    return 1.0 if brief.strength is None else brief.strength


def painter_of(parts: Parts, critic: Critic) -> Dalle2Painter:
    """The parts put together.

    Raises:
        BadWeights: the schedules are not known, or the parts do not belong together.
    """
    space = Space.of(critic, parts.prior.config.num_embeddings)
    decoder = DiffusionPainter(
        card=parts.card,
        text=space,
        network=Decoder(parts.decoder.eval(), parts.projection.eval(), parts.fold),
        prediction=Prediction(parts.decoder_schedule.get("prediction_type", "epsilon")),
        schedule=Schedule.from_config(parts.decoder_schedule),
        codec=IdentityCodec(parts.decoder.config.in_channels // parts.fold**2),
        modules={"decoder": parts.decoder},
        limit=clamped,
        variance=Variance(parts.decoder_schedule.get("variance_type", "fixed_small")),
    )
    prior = Prior(parts.prior.eval(), Schedule.from_config(parts.prior_schedule), parts.asked)
    return Dalle2Painter(parts.card, space, prior, decoder)


@family("dalle2")
def open_weights(folder: Path) -> Dalle2Painter:
    """A painter from a folder, in the space of the shipped CLIP.

    Raises:
        BadWeights: in one line that names the file and what is wrong with it.
    """
    parts = read_parts(folder)
    check_clip(folder, parts.clip)
    return painter_of(parts, open_critic())


def dalle2_card(name: str, decoder: UNet2DConditionModel, fold: int) -> Card:
    """What can be said of a model from its decoder alone."""
    side = decoder.config.sample_size * fold
    alpha = {Can.ALPHA} if decoder.config.in_channels == 4 * fold**2 else set()
    return Card(
        name=name,
        family="dalle2",
        summary=f"an unCLIP for pictures of {side} x {side}",
        paper="2204.06125",
        year=2022,
        licence="Apache-2.0",
        width=side,
        height=side,
        grid=side,
        steps=20,
        guidance=3.0,
        can=frozenset({Can.WORDS, Can.NEGATIVE, Can.REDRAW, Can.TILE} | alpha),
    )


def fresh_parts(preset: str, clip: str, seed: int = 0) -> Parts:
    """Networks of random weights, the same for the same seed: to train. clip: as in `Parts`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = PriorTransformer(**PRIORS[preset])
        decoder = UNet2DConditionModel(**DECODERS[preset])
        projection = fresh_projection(decoder, prior.config.embedding_dim)
    return Parts(
        card=dalle2_card(preset, decoder, FOLDS[preset]),
        prior=prior,
        prior_schedule=PRIOR_SCHEDULE,
        decoder=decoder,
        projection=projection,
        decoder_schedule=DECODER_SCHEDULE,
        clip=clip,
        fold=FOLDS[preset],
        asked=PriorOptions(steps=10, guidance=1.5),
    )


def random_painter(preset: str = "tiny", seed: int = 0) -> Dalle2Painter:
    """A painter of random weights with a CLIP of random weights, for tests."""
    parts = fresh_parts(preset, clip="", seed=seed)
    tokenizer = byte_tokenizer(parts.prior.config.num_embeddings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = Critic.of(build_clip(preset, tokenizer), tokenizer)
        measure(parts.prior, torch.randn(50, parts.prior.config.embedding_dim))
    return painter_of(parts, critic)
