"""DALL-E 2: a prior, a decoder and an upsampler of stickers, in the space of the shipped CLIP.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, without the
held-out pairs. Each part has a folder in the run. First `prior` is trained to its end, in minutes; then
`decoder` at 32 pixels, which starts with the convolutions of a `ddpm` among the parts if there is one; then
`upsampler` to 64 pixels. `--steps` is the number for the decoder; the others take a share of it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from danqing.data.dataset import CaptionedImages
from danqing.diffusion.schedule import Schedule
from danqing.families import open_clip_scorer
from danqing.families.dalle2.clip_space import Space, fingerprint
from danqing.families.dalle2.folder import Dalle2Components, read_components, save_components
from danqing.families.dalle2.painter import painter_of
from danqing.families.dalle2.unclip import fresh_components
from danqing.families.ddpm.folder import read_folder
from danqing.recipes._recipe import TrainRequest, read, recipe, styles_of
from danqing.training.cascade import SuperResolutionObjective
from danqing.training.diffusion import DiffusionOptions
from danqing.training.prior import PriorObjective
from danqing.training.trainer import TrainOptions
from danqing.training.unclip import DecoderObjective, copy_matching_weights
from danqing.weights.shipped import shipped_part

PRESET = "sticker"
STEPS = 8000
PRIOR, UPSAMPLER = 0.2, 0.3  # number of steps as shares of the decoder's


@recipe("dalle2", further=True)
def dalle2(request: TrainRequest) -> Path:
    """Train the prior, the decoder and the upsampler; writes `dalle2`, the painter's folder."""
    train_set, validation_set = read(request)
    components = read_components(shipped_part("dalle2")) if request.further else _fresh(request, train_set)
    _train_prior(request, components, train_set, validation_set)
    _train_decoder(request, components, train_set)
    _train_upsampler(request, components, train_set)
    save_components(components, request.run / "dalle2")
    return request.run / "dalle2"


def _fresh(request: TrainRequest, train_set: CaptionedImages) -> Dalle2Components:
    components = fresh_components(PRESET, fingerprint(shipped_part("clip")))
    earlier = request.parts / "ddpm" / "ddpm"
    if earlier.is_dir():
        copied = copy_matching_weights(components.decoder, read_folder(earlier).unet)
        request.report(f"the decoder starts with {copied} tensors of {str(earlier)!r}")
    fields = {
        "name": "dalle2",
        "summary": f"stickers by way of CLIP's embeddings, {components.card.width} pixels square",
        "styles": styles_of(train_set),
    }
    return replace(components, card=components.card.model_copy(update=fields))


def _train_prior(
    request: TrainRequest,
    components: Dalle2Components,
    train_set: CaptionedImages,
    validation_set: CaptionedImages,
) -> None:
    space = Space.of(open_clip_scorer(), components.prior.config.num_embeddings)
    schedule = Schedule.from_config(components.prior_schedule)
    objective = PriorObjective(
        components.prior, schedule, space, train_set, validation_set, DiffusionOptions()
    )
    pace = TrainOptions(steps=_steps(request, PRIOR), batch=64, lr=1e-3, warmup=100, ema=0.995)
    request.train(objective, pace, request.run / "prior")
    request.report(f"held-out embeddings are met with a cosine of {objective.agreement():.3f}")


def _train_decoder(request: TrainRequest, components: Dalle2Components, train_set: CaptionedImages) -> None:
    options = DiffusionOptions(drop=0.5, mirror=0.5)
    objective = DecoderObjective(painter_of(components, open_clip_scorer()), train_set, options)
    pace = TrainOptions(steps=_steps(request), batch=32, lr=1e-3, warmup=200, ema=0.9995, sheet_every=1000)
    request.train(objective, pace, request.run / "decoder")


def _train_upsampler(request: TrainRequest, components: Dalle2Components, train_set: CaptionedImages) -> None:
    stage = painter_of(components, open_clip_scorer()).stage
    if stage is None or components.upsampler is None:
        return
    objective = SuperResolutionObjective(
        stage, components.upsampler, train_set, options=DiffusionOptions(mirror=0.5), crop=32
    )
    pace = TrainOptions(
        steps=_steps(request, UPSAMPLER), batch=32, lr=1e-3, warmup=200, ema=0.999, sheet_every=1000
    )
    request.train(objective, pace, request.run / "upsampler")


def _steps(request: TrainRequest, share: float = 1.0) -> int:
    return max(1, round((request.steps or STEPS) * share))
