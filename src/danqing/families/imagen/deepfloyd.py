"""DeepFloyd IF, a public Imagen: a diffusers folder, with the folder of its second stage inside.

Its networks are classes of diffusers and learn their variance. T5 masks padding, but the networks attend to
it. The safety checker and the watermark of its pipelines are not supported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from danqing.conditioning.masked_text_encoder import MaskedEncoder
from danqing.core.card import Can, Card, find_card
from danqing.core.errors import BadWeights
from danqing.core.painter import Conditioning
from danqing.diffusion.cascade import Augment, Cascade, SuperResolution
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.thresholding import DynamicThresholding, static_threshold
from danqing.diffusion.vae import IdentityVAE
from danqing.diffusion.variance import Variance
from danqing.nets.placement import as_input, to_float32
from danqing.weights.pretrained import Config, read_json, read_module
from danqing.weights.text_encoders import read_text_encoder

BASE, SUPER_RESOLUTION = "IFPipeline", "IFSuperResolutionPipeline"
STAGE = "stage_1"  # the folder of the second stage, inside that of the first
_LEVEL = 0.25  # `noise_level` 250 of 1000 in diffusers
_CHANNELS = 3


@dataclass(frozen=True)
class IFText(MaskedEncoder):
    """The states of T5 without normalisation, including those of padding."""

    def encode_ids(self, ids: Tensor, mask: Tensor) -> Conditioning:
        """Encode the output of `tokenize`, for n pictures."""
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        return Conditioning(self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float())


@dataclass(frozen=True)
class IFDenoiser:
    """A UNet of IF as a `guidance.Network`.

    unet: the network.
    levels: number of noise levels of the low-resolution picture that a stage distinguishes.
    """

    unet: UNet2DConditionModel
    levels: int = 1000

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The output [n 2c h w]: the prediction, and then the variance."""
        level = None if cond.concat_level is None else _to_numbers(cond.concat_level, self.levels)
        x = x if cond.concat is None else torch.cat([x, cond.concat], dim=1)
        x, tokens = as_input(self.unet, x), as_input(self.unet, cond.tokens)
        output: Tensor = self.unet(x, t, encoder_hidden_states=tokens, class_labels=level, return_dict=False)[
            0
        ]
        return to_float32(output)


def noised_as(schedule: Schedule) -> Augment:
    """An augmentation that adds the noise of `schedule` at the fraction s of its times."""

    def augment(picture: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        alpha, sigma = schedule.at(_to_numbers(level, len(schedule)))
        return alpha.view(-1, 1, 1, 1) * picture + sigma.view(-1, 1, 1, 1) * noise

    return augment


def read_if(folder: Path) -> Cascade:
    """Read a folder of IFPipeline, and that of IFSuperResolutionPipeline in `stage_1` if there is one.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    text = read_text_encoder(folder / "text_encoder", folder / "tokenizer")
    encoder = IFText(text.tokenizer, text.model, text.max_length)
    further = folder / STAGE
    folders = [(folder, BASE), (further, SUPER_RESOLUTION)] if further.is_dir() else [(folder, BASE)]
    painters = [_read_stage(place, kind, encoder) for place, kind in folders]
    base, last = painters[0].card, painters[-1].card
    stages = []
    if further.is_dir():
        scheduler = read_json(further / "image_noising_scheduler" / "scheduler_config.json")
        augment = noised_as(Schedule.from_config(scheduler))
        stages.append(super_resolution(painters[1], last.width // base.width, augment))
    card = find_card(folder) or last.model_copy(
        update={
            "name": folder.name,
            "steps": base.steps,
            "guidance": base.guidance,
            "size_multiple": base.size_multiple * last.width // base.width,
        }
    )
    return Cascade(card, painters[0], tuple(stages))


def super_resolution(painter: DiffusionPainter, factor: int, augment: Augment) -> SuperResolution:
    """A super-resolution stage with the noise level and the upsampling of IF."""
    return SuperResolution(painter, factor, level=_LEVEL, augment=augment, align_corners=True)


def stage_painter(
    unet: UNet2DConditionModel, scheduler: Config, card: Card, text: MaskedEncoder
) -> DiffusionPainter:
    """One stage as a painter.

    scheduler: a config of diffusers' DDPMScheduler.
    """
    return DiffusionPainter(
        card=card,
        text=text,
        network=IFDenoiser(unet.eval()),
        prediction=Prediction(scheduler.get("prediction_type", "epsilon")),
        schedule=Schedule.from_config(scheduler),
        vae=IdentityVAE(_CHANNELS),
        modules={"unet": unet},
        frozen=(text.model,),
        threshold=_limit(scheduler),
        variance=Variance(scheduler.get("variance_type", "fixed_small")),
    )


def _limit(scheduler: Config) -> Callable[[Tensor], Tensor] | None:
    if scheduler.get("thresholding", False):
        return DynamicThresholding(
            scheduler.get("dynamic_thresholding_ratio", 0.995), scheduler.get("sample_max_value", 1.0)
        )
    return static_threshold if scheduler.get("clip_sample", True) else None


def _read_stage(folder: Path, kind: str, text: MaskedEncoder) -> DiffusionPainter:
    name = read_json(folder / "model_index.json").get("_class_name")
    if name != kind:
        raise BadWeights(f"{str(folder)!r} holds {name}, not {kind}: put the right stage of IF there")
    unet = read_module(folder / "unet", UNet2DConditionModel.from_config)
    base, channels = kind == BASE, unet.config.in_channels
    if channels != (_CHANNELS if base else 2 * _CHANNELS):
        raise BadWeights(f"{str(folder / 'unet')!r} takes {channels} channels: it is no UNet of {kind}")
    card = Card(
        name=folder.name,
        family="imagen",
        summary=f"DeepFloyd IF, {unet.config.sample_size} pixels; no safety checker and no watermark",
        paper="2205.11487",
        year=2023,
        licence="DeepFloyd IF License Agreement",
        width=unet.config.sample_size,
        height=unet.config.sample_size,
        size_multiple=2 ** (len(unet.config.block_out_channels) - 1),
        steps=100 if base else 50,
        guidance=7.0 if base else 4.0,
        sampler="ddpm",
        can=frozenset({Can.WORDS, Can.NEGATIVE, Can.REDRAW, Can.INPAINT}),
    )
    return stage_painter(unet, read_json(folder / "scheduler" / "scheduler_config.json"), card, text)


def _to_numbers(level: Tensor, count: int) -> Tensor:
    """Convert levels in [0, 1] to times int64 in [0, count)."""
    return (level * count).round().long().clamp(max=count - 1)
