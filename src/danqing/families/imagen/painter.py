"""Imagen: a frozen language model encodes the prompt, and a cascade of pixel diffusion models paints it.

Paper: Saharia et al., Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding, arXiv
2205.11487.
Differs: it is far smaller and paints RGBA; all stages predict v on a cosine schedule. The folder names the
language model (T5 or a sentence encoder); the shipped model uses the token states of our own CLIP in place of
T5, because no language model of that size supports both English and Chinese.
Licences: code Apache-2.0; the shipped weights were trained from scratch on openly licensed pictures (see
NOTICE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from danqing.conditioning.masked_text_encoder import MaskedEncoder
from danqing.core.card import Can, Card
from danqing.core.painter import Conditioning
from danqing.core.registry import family
from danqing.diffusion.cascade import Cascade, PreconditionedSuperResolution, SuperResolution
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.thresholding import DynamicThresholding
from danqing.diffusion.vae import IdentityVAE
from danqing.families.imagen.deepfloyd import read_if
from danqing.families.imagen.folder import ImagenComponents, StageConfig, read_components
from danqing.families.imagen.folder import save_components as save_components
from danqing.nets.efficient_unet import EfficientUNet, EfficientUNetConfig
from danqing.nets.placement import as_input, to_float32
from danqing.weights.pretrained import Config
from danqing.weights.text_encoders import TextEncoderRef

SCHEDULE: Config = {
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
}


def _enlarging(widths: tuple[int, ...], depths: tuple[int, ...], **fields: int) -> EfficientUNetConfig:
    """A super-resolution stage: text attention at the lowest level only, no self-attention, so any size."""
    attention = tuple(k == len(widths) - 1 for k in range(len(widths)))
    return EfficientUNetConfig(
        concat_channels=4, widths=widths, depths=depths, attention=attention, to_itself=False, **fields
    )


UNETS: dict[str, tuple[EfficientUNetConfig, ...]] = {
    "tiny": (
        EfficientUNetConfig(widths=(8, 16), depths=(1, 1), attention=(False, True), text=32, embedding=16),
        _enlarging((4, 8), (1, 1), text=32, embedding=16),
    ),
    "sticker": (
        EfficientUNetConfig(widths=(32, 96, 144, 144), embedding=160),
        _enlarging((16, 48, 80), (0, 1, 1), embedding=128),
        _enlarging((16, 32, 64, 80), (0, 0, 1, 1), embedding=96),
    ),
    # the shape of the cascade of the paper and of DeepFloyd IF; it needs T5-XXL and large GPUs
    "if": (
        EfficientUNetConfig(
            text=4096,
            widths=(192, 384, 576, 768),
            depths=(3, 3, 3, 3),
            attention=(False, True, True, True),
            embedding=768,
        ),
        _enlarging((128, 256, 512, 1024), (2, 4, 8, 8), text=4096, embedding=512),
        _enlarging((128, 256, 512, 1024), (2, 4, 8, 8), text=4096, embedding=512),
    ),
}

STAGES: dict[str, tuple[StageConfig, ...]] = {
    "tiny": (StageConfig(side=8, steps=2, guidance=2.0), StageConfig(side=16, steps=1, guidance=1.0)),
    # a cap of 1 is plain clipping: most of a sticker is white background, at the end of the range, and
    # dynamic thresholding turns it grey (early in training 0.49 with a cap of 1.5, 0.84 with 1, where white
    # is 1). The noise level is low, because stages that were trained for minutes do not remove more noise
    "sticker": (
        StageConfig(side=32, steps=20, guidance=4.0, cap=1.0),
        StageConfig(side=64, steps=8, guidance=1.0, level=0.02, cap=1.0),
        StageConfig(side=128, steps=6, guidance=1.0, level=0.02, cap=1.0),
    ),
    "if": (
        StageConfig(side=64, steps=100, guidance=7.0, sampler="ddpm", p=0.95),
        StageConfig(side=256, steps=50, guidance=4.0, sampler="ddpm", p=0.95, level=0.25, cap=1.0),
        StageConfig(side=1024, steps=30, guidance=4.0, sampler="ddpm", p=0.95, level=0.25, cap=1.0),
    ),
}


@dataclass(frozen=True)
class Denoiser:
    """The Efficient U-Net as a `diffusion.guidance.Network`."""

    unet: EfficientUNet

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Pictures [n c h w], times [n] and the conditioning of n pictures -> output [n c h w]."""
        concat = None if cond.concat is None else as_input(self.unet, cond.concat)
        x, tokens = as_input(self.unet, x), as_input(self.unet, cond.tokens)
        output: Tensor = self.unet(x, t, tokens, cond.mask, concat, cond.concat_level)
        return to_float32(output)


def painter_of(components: ImagenComponents) -> Cascade:
    """Build the painter from its components.

    Raises:
        BadWeights: the sizes of stages do not fit, or the schedule is unknown.
    """
    painters = [stage_painter(components, number) for number in range(len(components.stages))]
    sides = [stage.side for stage in components.stages]
    stages = [
        SuperResolution(painter, max(1, side // before), level=config.level)
        for painter, side, before, config in zip(
            painters[1:], sides[1:], sides, components.stages[1:], strict=False
        )
    ]
    return Cascade(components.card, painters[0], tuple(stages))


def stage_painter(components: ImagenComponents, number: int) -> DiffusionPainter:
    """One stage as a painter; number 0 is the base."""
    config, unet = components.stages[number], components.unets[number].eval()
    card = components.card.model_copy(
        update={
            "name": f"{components.card.name} {config.side}",
            "width": config.side,
            "height": config.side,
            "size_multiple": unet.size_multiple,
            "steps": config.steps,
            "guidance": config.guidance,
            "sampler": config.sampler,
        }
    )
    prediction = Prediction(components.scheduler.get("prediction_type", "epsilon"))
    schedule = Schedule.from_config(components.scheduler)
    enlarges = bool(unet.config.concat_channels)
    return DiffusionPainter(
        card=card,
        text=components.text,
        network=(
            PreconditionedSuperResolution(Denoiser(unet), prediction, schedule)
            if enlarges
            else Denoiser(unet)
        ),
        prediction=prediction,
        schedule=schedule,
        vae=IdentityVAE(unet.config.channels),
        modules={"unet": unet},
        frozen=(components.text.model,),
        threshold=DynamicThresholding(config.p, config.cap),
    )


@family("imagen")
def open_weights(folder: Path) -> Cascade:
    """Open a painter from a folder of ours or of DeepFloyd IF (see `deepfloyd`).

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    if (folder / "model_index.json").is_file():
        return read_if(folder)
    return painter_of(read_components(folder))


def fresh_components(
    preset: str, text: MaskedEncoder, text_encoder_ref: TextEncoderRef, stages: int | None = None
) -> ImagenComponents:
    """A preset with random weights for the text encoder `text`.

    stages: how many of its stages, from the base; None means all.
    """
    configs, stage_configs = UNETS[preset][:stages], STAGES[preset][:stages]
    width = text.model.config.hidden_size
    unets = tuple(EfficientUNet(replace(config, text=width)).eval() for config in configs)
    return ImagenComponents(
        imagen_card(preset, stage_configs, unets),
        text,
        text_encoder_ref,
        stage_configs,
        unets,
        dict(SCHEDULE),
    )


def random_components(text: MaskedEncoder, preset: str = "tiny", seed: int = 0) -> ImagenComponents:
    """A preset with random weights, also in layers that start at zero; the seed determines them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        components = fresh_components(preset, text, TextEncoderRef.of(text))
        for unet in components.unets:  # their last layers start at zero
            for weight in unet.parameters():
                if not weight.any():
                    torch.nn.init.normal_(weight, std=0.1)
    return components


def imagen_card(name: str, stages: Sequence[StageConfig], unets: Sequence[EfficientUNet]) -> Card:
    """The card of a painter, from its configs."""
    base, last = stages[0], stages[-1]
    shrink = [last.side // stage.side for stage in stages]
    alpha = {Can.ALPHA} if unets[-1].config.channels == 4 else set()
    path = " -> ".join(str(stage.side) for stage in stages)
    return Card(
        name=name,
        family="imagen",
        summary=f"a cascade of {path} pixels led by a frozen text encoder",
        paper="2205.11487",
        year=2022,
        licence="Apache-2.0",
        width=last.side,
        height=last.side,
        size_multiple=max(unet.size_multiple * factor for unet, factor in zip(unets, shrink, strict=True)),
        steps=base.steps,
        guidance=base.guidance,
        sampler=base.sampler,
        can=frozenset({Can.WORDS, Can.NEGATIVE, Can.REDRAW, Can.INPAINT} | alpha),
    )
