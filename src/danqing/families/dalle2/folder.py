"""The folder of an unCLIP.

It has the layout of diffusers' `UnCLIPPipeline` (Karlo). In place of a text encoder it has danqing.json, with
the hash of the weights of the shipped CLIP and with values that have no place in configs of diffusers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from diffusers import PriorTransformer, UNet2DConditionModel

from danqing.core.card import Card, read_card
from danqing.core.errors import BadWeights
from danqing.diffusion.prior import PriorOptions
from danqing.families.dalle2.clip_space import fingerprint
from danqing.nets.efficient_unet import EfficientUNet, current_key
from danqing.nets.unclip import TextProjection
from danqing.weights.diffusers_folder import check_channels
from danqing.weights.pretrained import (
    Config,
    read_json,
    read_module,
    replacing_folder,
    write_json,
    write_module,
)
from danqing.weights.shipped import shipped_part
from danqing.weights.tensor_files import first_line

OURS = "danqing.json"


@dataclass(frozen=True)
class Dalle2Components:
    """The content of a folder.

    card: the card of the model.
    prior, decoder, projection: networks, see `Prior` and `Decoder`.
    prior_schedule, decoder_schedule: scheduler configs of diffusers.
    clip: the hash of the weights of its CLIP.
    patch_size: see `Decoder`.
    prior_options: how image embeddings are sampled.
    upsampler: upscales the decoder's pictures to `card.width`, with the decoder's schedule.
    """

    card: Card
    prior: PriorTransformer
    prior_schedule: Config
    decoder: UNet2DConditionModel
    projection: TextProjection
    decoder_schedule: Config
    clip: str
    patch_size: int = 1
    prior_options: PriorOptions = field(default_factory=PriorOptions)
    upsampler: EfficientUNet | None = None


def save_components(components: Dalle2Components, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the folder, completely or not at all.

    Raises:
        BadWeights: a value does not fit into `dtype`.
        DanqingError: the folder cannot be written.
    """
    with replacing_folder(folder) as draft:
        for name, part in (("prior", components.prior), ("decoder", components.decoder)):
            part.save_config(draft / name)
            config = read_json(draft / name / "config.json")
            write_module(part, config, draft / name, "diffusion_pytorch_model", dtype)
        projection = components.projection
        write_module(
            projection, projection.to_config(), draft / "text_proj", "diffusion_pytorch_model", dtype
        )
        if components.upsampler is not None:
            config = components.upsampler.to_config()
            write_module(components.upsampler, config, draft / "upsampler", "diffusion_pytorch_model", dtype)
        for name, schedule in (
            ("prior", components.prior_schedule),
            ("decoder", components.decoder_schedule),
        ):
            place = draft / f"{name}_scheduler"
            place.mkdir()
            write_json(schedule, place / "scheduler_config.json")
        ours = {
            "clip": components.clip,
            "fold": components.patch_size,
            "prior": asdict(components.prior_options),
        }
        write_json(ours, draft / OURS)
        write_json(components.card.model_dump(mode="json"), draft / "card.json")


def read_components(folder: Path) -> Dalle2Components:
    """Read a folder that `save_components` wrote, in float32 on the CPU.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    card = read_card(folder)
    ours = read_json(folder / OURS)
    try:
        clip, patch_size, prior_options = str(ours["clip"]), int(ours["fold"]), PriorOptions(**ours["prior"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadWeights(
            f"{str(folder / OURS)!r} needs clip, fold and prior ({first_line(error)}): fetch it again"
        ) from None
    decoder = read_module(folder / "decoder", UNet2DConditionModel.from_config)
    channels = decoder.config.in_channels
    if patch_size < 1 or channels % patch_size**2 or channels // patch_size**2 not in (3, 4):
        raise BadWeights(
            f"{str(folder / OURS)!r}: fold {patch_size} does not fit {channels} channels: fetch it again"
        )
    schedule = read_json(folder / "decoder_scheduler" / "scheduler_config.json")
    check_channels(folder / "decoder", decoder.config, schedule)
    place = folder / "upsampler"
    return Dalle2Components(
        card=card,
        prior=read_module(folder / "prior", PriorTransformer.from_config),
        prior_schedule=read_json(folder / "prior_scheduler" / "scheduler_config.json"),
        decoder=decoder,
        projection=read_module(folder / "text_proj", TextProjection.from_config),
        decoder_schedule=schedule,
        clip=clip,
        patch_size=patch_size,
        prior_options=prior_options,
        upsampler=read_module(place, EfficientUNet.from_config, current_key) if place.is_dir() else None,
    )


def check_clip(folder: Path, expected: str, clip: Path | None = None) -> None:
    """Check that a CLIP is the one with which the networks of a folder were trained.

    folder: the folder of the networks, for the message.
    expected: the hash of the right CLIP.
    clip: the folder of the CLIP to check; None is the shipped one.

    Raises:
        BadWeights: it is another CLIP.
    """
    hash_ = fingerprint(shipped_part("clip") if clip is None else clip)
    if hash_ != expected:
        raise BadWeights(
            f"{str(folder)!r} paints embeddings of the CLIP {expected[:12]}, this copy has {hash_[:12]}: use "
            "the version of danqing that it came with, or train it again"
        )
