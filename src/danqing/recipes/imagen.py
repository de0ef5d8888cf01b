"""Imagen: a cascade of stickers, 32 -> 64 -> 128 pixels, from the token states of a frozen text encoder.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, without the
held-out pairs. The base is trained first, then each super-resolution stage, each in a folder of the run,
where an interrupted one resumes. `--steps` is the number for the base, and the stages take a share of it. The
text encoder is our own CLIP's, unless `--parts` has a folder `text_encoder`: a T5 or a sentence encoder of
transformers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from danqing.conditioning.masked_text_encoder import MaskedEncoder
from danqing.core.card import Card
from danqing.data.dataset import CaptionedImages
from danqing.families.imagen.folder import ImagenComponents, read_components, save_components
from danqing.families.imagen.painter import fresh_components, painter_of, stage_painter
from danqing.recipes._recipe import TrainRequest, probes_of, read, recipe, styles_of
from danqing.training.cascade import MaskedCaptions, StageObjective, SuperResolutionObjective
from danqing.training.diffusion import DiffusionOptions
from danqing.training.trainer import TrainOptions
from danqing.weights.shipped import shipped_part
from danqing.weights.text_encoders import TextEncoderRef, read_text_encoder

PRESET = "sticker"
SHARES = (1.0, 0.15, 0.1)  # of the base's steps; about an hour of one AVX-512 core, by measured steps
CROP = 64  # side in pixels of the crops that a stage is trained on


@recipe("imagen", further=True)
def imagen(request: TrainRequest) -> Path:
    """Train the base and the stages; writes `imagen`, the painter's folder."""
    train_set, _ = read(request)
    components = (
        read_components(shipped_part("imagen"))
        if request.further
        else _fresh(request.parts, styles_of(train_set))
    )
    for number in range(len(components.stages)):
        title = "the base" if number == 0 else f"stage {number}"
        request.report(f"{title}: {components.stages[number].side} pixels")
        objective = _objective(components, number, train_set)
        steps = max(1, round((request.steps or 4000) * SHARES[number]))
        warmup = min(200, 1 + steps // 10)
        pace = TrainOptions(steps=steps, batch=32, lr=1e-3, warmup=warmup, ema=0.9995, sheet_every=1000)
        request.train(objective, pace, request.run / f"stage_{number}")
    save_components(components, request.run / "imagen")
    return request.run / "imagen"


def _objective(components: ImagenComponents, number: int, train_set: CaptionedImages) -> StageObjective:
    """The objective of stage `number`; 0 is the base."""
    options = DiffusionOptions(probes=probes_of(train_set), mirror=0.5)
    words, unet = MaskedCaptions(components.text, train_set, options), components.unets[number]
    if number == 0:
        return StageObjective(stage_painter(components, 0), unet, train_set, words, options)
    stage = painter_of(components).stages[number - 1]
    return SuperResolutionObjective(stage, unet, train_set, words, options, CROP)


def _fresh(folder: Path, styles: dict[str, str]) -> ImagenComponents:
    """Components with random weights, for the text encoder in `folder` or the shipped CLIP."""
    place = folder / "text_encoder"
    own = place.is_dir()
    text = read_text_encoder(place if own else shipped_part("clip"))
    text_encoder_ref = TextEncoderRef.of(text, place.resolve() if own else None)
    components = fresh_components(PRESET, text, text_encoder_ref)
    return replace(components, card=_card(components.card, text, styles))


def _card(card: Card, text: MaskedEncoder, styles: dict[str, str]) -> Card:
    """The card of the trained model."""
    kind = text.model.config.model_type
    reader = (
        "token states of our CLIP instead of T5" if kind.startswith("clip") else f"token states of {kind}"
    )
    fields = {
        "name": "imagen",
        "summary": f"stickers by a cascade of {card.width // 4}, {card.width // 2} and {card.width} pixels, "
        f"led by {reader}",
        "styles": styles,
    }
    return card.model_copy(update=fields)
