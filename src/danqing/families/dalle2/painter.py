"""DALL-E 2 (unCLIP): a prior maps the prompt to a CLIP image embedding, and a decoder paints from it.

Paper: Ramesh et al., Hierarchical Text-Conditional Image Generation with CLIP Latents, arXiv 2204.06125.
Differs: it is small and paints RGBA; the decoder predicts v and works on patches of pixels, as `ddpm` does.

An input picture is encoded as its embedding and its DDIM noise, and then painted from both. `strength` says
how far both change: the noise is mixed with new noise by `strength`, and the embedding is rotated towards the
prompt by half of it (text diff). Several pictures are mixed by spherical interpolation.
Licences: code Apache-2.0; weights have the licence of those who trained them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from danqing.conditioning.encode import encode
from danqing.conditioning.prompt import parse_negative, styled_prompt
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.card import Card
from danqing.core.errors import BadBrief, BadWeights
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages
from danqing.core.registry import family
from danqing.core.seeds import Seeds, slerp
from danqing.diffusion.cascade import PreconditionedSuperResolution, SuperResolution
from danqing.diffusion.inversion import invert
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.prior import Prior, best, measure
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.thresholding import static_threshold
from danqing.diffusion.vae import IdentityVAE
from danqing.diffusion.variance import Variance
from danqing.families import open_clip_scorer
from danqing.families.clip import ClipScorer, build_clip
from danqing.families.dalle2.clip_space import Space, join_words_and_image, mixture, text_diff
from danqing.families.dalle2.folder import Dalle2Components, check_clip, read_components
from danqing.families.dalle2.folder import save_components as save_components
from danqing.families.dalle2.unclip import Decoder, decoder_conditioning, fresh_components
from danqing.families.imagen.painter import Denoiser
from danqing.families.stable_diffusion.painter import byte_tokenizer
from danqing.nets.efficient_unet import EfficientUNet
from danqing.nets.placement import move

UPSAMPLER_STEPS = 8
TEXT_DIFF = 0.5  # the amount of the text diff at strength 1; section 3.3 uses 0.25 to 0.5


@dataclass(eq=False)
class Dalle2Painter:
    """Runs the steps of the prior, on white canvases, then the decoder's, then the upsampler's if it has one.

    card: the card of the model, with the size of the finished picture.
    space: encodes prompts and pictures.
    prior: samples image embeddings.
    decoder: its network is a `Decoder`, with the image embedding as the first token.
    stage: super-resolution of the decoder's picture, without a prompt.

    Raises:
        BadWeights: the widths of the prior and of CLIP differ.
    """

    card: Card
    space: Space
    prior: Prior
    decoder: DiffusionPainter
    stage: SuperResolution | None = None

    def __post_init__(self) -> None:
        wants, has = self.prior.width, self.space.width
        if wants != has:
            raise BadWeights(
                f"the prior speaks embeddings of {wants} numbers, this CLIP has {has}: use the CLIP that it "
                "learned with"
            )

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """See `Painter.place`."""
        self.space.place(device, dtype)
        move(device, dtype, self.prior.network)
        self.decoder.place(device, dtype)
        if self.stage is not None:
            self.stage.painter.place(device, dtype)

    def condition(self, brief: ResolvedBrief, images: InputImages = NO_IMAGES) -> Conditioning:
        """Encode the prompt, and input pictures as an embedding `concat` [1 d 1 1] and as noise `image`.

        The noise is computed only if some of it is used: at a strength below 1.

        Raises:
            BadBrief: the prompt or the number of steps is not supported.
        """
        conditioning = encode(self.space, styled_prompt(brief, self.card), parse_negative(brief), steps=1)
        conditioning = self._join(conditioning)
        images = images.to(self.decoder.device)
        pictures = images.references or (() if images.image is None else (images.image,))
        if not pictures:
            return conditioning
        embeddings = [self.space.image_embedding(picture) for picture in pictures]
        weights = images.weights or (1.0,) * len(embeddings)
        z = mixture(embeddings, weights)
        if not images.references:
            before = (
                torch.zeros_like(z) if conditioning.negative is None else conditioning.negative.tokens[:, -1]
            )
            z = text_diff(z, _whole(conditioning), before, TEXT_DIFF * _strength(brief))
        noise = None
        if _strength(brief) < 1:
            each = zip(pictures, embeddings, strict=True)
            noise = mixture(
                [self._noise(brief, decoder_conditioning(conditioning, z), picture) for picture, z in each],
                weights,
            )
        return replace(conditioning, image=noise, concat=z[:, :, None, None])

    def begin(self, brief: ResolvedBrief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        """Noise for the decoder; with an input picture, its noise mixed with new noise by `strength`.

        Raises:
            BadBrief: the size is not that of the decoder, the sampler is unknown, or the schedule has fewer
                steps.
        """
        side = self.card.width * (1 if brief.native else self.card.scale)
        if (brief.width, brief.height) != (side, side):
            raise BadBrief(
                f"model {self.card.name!r} paints {side}x{side} only, not {brief.width}x{brief.height}: "
                "leave the size out"
            )
        canvas = self.decoder.begin(self._small(brief), replace(conditioning, image=None), seeds)
        further = 0 if conditioning.concat is not None else self.prior.options.steps
        further += 0 if self.stage is None else self.stage.painter.card.steps
        state = canvas.state
        if conditioning.image is not None:
            state = slerp(conditioning.image.expand_as(state), state, _strength(brief))
        return replace(canvas, state=state, of=canvas.of + further)

    def steps(self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """One canvas for each step of the prior (white), of the decoder and of the upsampler.

        Raises:
            NotFinite: NaN or infinite values appeared; the message names the step.
        """
        n, steps_before = len(canvas.seeds), 0
        if conditioning.concat is not None:
            z = conditioning.concat.flatten(1).expand(n, -1)
        else:
            plain = replace(conditioning, image=None)
            for steps_before, drawn in enumerate(self.prior.sample(plain, canvas.seeds), start=1):  # noqa: B007
                yield replace(canvas, state=torch.ones_like(canvas.state), step=steps_before)
            z = best(self.space.rescale(drawn), _whole(conditioning).expand(n, -1))
        cond, step_canvas = decoder_conditioning(conditioning.expand(n), z), replace(canvas, of=brief.steps)
        for step_canvas in self.decoder.steps(self._small(brief), cond, step_canvas):  # noqa: B020  the canvas moves along
            yield replace(step_canvas, step=steps_before + step_canvas.step, of=canvas.of)
        if self.stage is not None:
            for large in self._upsample(
                self.stage, brief, canvas.seeds, self.decoder.finish(step_canvas).to(self.decoder.device)
            ):
                yield replace(
                    large, seeds=canvas.seeds, step=steps_before + step_canvas.of + large.step, of=canvas.of
                )

    def preview(self, canvas: Canvas) -> Tensor:
        """The current estimate of the picture, [n 3 h w] in [0, 1]."""
        return self.decoder.preview(canvas)

    def finish(self, canvas: Canvas) -> Tensor:
        """The pictures [n c h w], clipped to [-1, 1].

        Raises:
            NotFinite: the canvas holds NaN or infinite values.
        """
        return self.decoder.finish(canvas)

    def upscale(self, pixels: Tensor) -> Tensor:
        """`card.scale` times larger, [n c h w] in [-1, 1]."""
        return self.decoder.upscale(pixels)

    def _join(self, conditioning: Conditioning) -> Conditioning:
        length = self.prior.length + 1

        def alone(part: Conditioning) -> Conditioning:
            negative = None if part.negative is None else join_words_and_image(part.negative, length)
            return replace(join_words_and_image(part, length), negative=negative)

        return conditioning.each(alone)

    @property
    def _factor(self) -> int:
        return 1 if self.stage is None else self.stage.factor

    def _small(self, brief: ResolvedBrief) -> ResolvedBrief:
        """The brief for the decoder."""
        side = self.card.width // self._factor
        return brief.model_copy(update={"width": side, "height": side, "native": True})

    def _upsample(
        self, stage: SuperResolution, brief: ResolvedBrief, seeds: Seeds, small: Tensor
    ) -> Iterator[Canvas]:
        """The canvases of the upsampler from small pictures [n c h w], with seeds of its own."""
        own, card = seeds.further(1), stage.painter.card
        stage_brief = Brief(prompt="-", seed=0, native=True, guidance=1.0, tile=brief.tile).resolve(card)
        noise = own.normal(small.shape[1], card.height, card.width).to(small)
        nothing = Conditioning(small.new_zeros(len(small), 1, 1))
        level = small.new_full((len(small),), stage.level)
        cond = stage.with_low_resolution(nothing, small, level, noise)
        yield from stage.painter.steps(stage_brief, cond, stage.painter.begin(stage_brief, cond, own))

    def _noise(self, brief: ResolvedBrief, cond: Conditioning, picture: Tensor) -> Tensor:
        """The noise [1 c h w] from which DDIM paints `picture` with `cond`: the x_T of section 3."""
        picture = F.avg_pool2d(picture, self._factor)
        levels = self.decoder.schedule.levels(brief.steps)
        return invert(self.decoder, self.decoder.vae.encode(picture), cond, levels, corrections=1)


def _whole(conditioning: Conditioning) -> Tensor:
    """The text embedding [n d] of a conditioning; parts are mixed by their weights."""
    return torch.stack([part.weights[:, None] * part.tokens[:, -1] for part in conditioning.parts]).sum(dim=0)


def _strength(brief: ResolvedBrief) -> float:
    return 1.0 if brief.strength is None else brief.strength


def painter_of(components: Dalle2Components, scorer: ClipScorer) -> Dalle2Painter:
    """Build the painter from its components.

    Raises:
        BadWeights: a schedule is unknown, or the components do not fit together.
    """
    space = Space.of(scorer, components.prior.config.num_embeddings)
    side = components.decoder.config.sample_size * components.patch_size
    decoder = DiffusionPainter(
        card=components.card.model_copy(update={"width": side, "height": side, "size_multiple": side}),
        text=space,
        network=Decoder(components.decoder.eval(), components.projection.eval(), components.patch_size),
        prediction=Prediction(components.decoder_schedule.get("prediction_type", "epsilon")),
        schedule=Schedule.from_config(components.decoder_schedule),
        vae=IdentityVAE(components.decoder.config.in_channels // components.patch_size**2),
        modules={"decoder": components.decoder},
        frozen=(components.projection,),
        threshold=static_threshold,
        variance=Variance(components.decoder_schedule.get("variance_type", "fixed_small")),
    )
    prior = Prior(
        components.prior.eval(), Schedule.from_config(components.prior_schedule), components.prior_options
    )
    stage = None if components.upsampler is None else _stage(components.card, decoder, components.upsampler)
    return Dalle2Painter(components.card, space, prior, decoder, stage)


def _stage(card: Card, decoder: DiffusionPainter, upsampler: EfficientUNet) -> SuperResolution:
    """The upsampler as a stage, with the schedule of the decoder.

    Raises:
        BadWeights: the card's width is not a multiple of the decoder's.
    """
    factor, odd = divmod(card.width, decoder.card.width)
    if odd or factor < 2:
        raise BadWeights(
            f"card.json: width {card.width} is no multiple of the decoder's {decoder.card.width}, which the "
            "upsampler enlarges: correct the card"
        )
    own = {"steps": UPSAMPLER_STEPS, "guidance": 1.0, "sampler": "dpmpp_2m"}
    painter = replace(
        decoder,
        card=card.model_copy(update=own),
        network=PreconditionedSuperResolution(
            Denoiser(upsampler.eval()), decoder.prediction, decoder.schedule
        ),
        modules={"upsampler": upsampler},
        frozen=(),
        variance=Variance.SMALL,
    )
    return SuperResolution(painter, factor, level=0.1)


@family("dalle2")
def open_weights(folder: Path) -> Dalle2Painter:
    """Open a painter from a folder, with the shipped CLIP.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    components = read_components(folder)
    check_clip(folder, components.clip)
    return painter_of(components, open_clip_scorer())


def random_painter(preset: str = "tiny", seed: int = 0) -> Dalle2Painter:
    """A painter and a CLIP with random weights, for tests."""
    components = fresh_components(preset, clip="", seed=seed)
    tokenizer = byte_tokenizer(components.prior.config.num_embeddings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        scorer = ClipScorer.of(build_clip(preset, tokenizer), tokenizer)
        measure(components.prior, torch.randn(50, components.prior.config.embedding_dim))
    return painter_of(components, scorer)
