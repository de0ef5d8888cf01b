"""The folder of an Imagen: card.json, config.json, and a folder for the network of each stage.

config.json names the text encoder of the training, and has a `StageConfig` for each stage.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass as checked_dataclass

from danqing.conditioning.masked_text_encoder import MaskedEncoder
from danqing.core.card import Card, read_card
from danqing.core.errors import BadWeights
from danqing.diffusion.thresholding import DynamicThresholding
from danqing.nets.efficient_unet import EfficientUNet, current_key
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
from danqing.weights.text_encoders import TextEncoderRef

_STEM = "model"


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class StageConfig:
    """The configuration of a stage.

    side: side of its pictures in pixels.
    steps, guidance, sampler: the defaults in its card.
    level: s of the low-resolution picture, see `SuperResolution`; the base ignores it.
    p, cap: parameters of `DynamicThresholding`.

    Raises:
        ValueError: a value has another type.
    """

    side: PositiveInt
    steps: PositiveInt
    guidance: float
    sampler: str = "dpmpp_2m"
    level: float = 0.2
    p: float = 0.995
    cap: float | None = 1.5


@dataclass(frozen=True)
class ImagenComponents:
    """The content of a folder.

    card: the card of the model.
    text: the text encoder.
    text_encoder_ref: the reference to the text encoder.
    stages: the configuration of each stage, the base first.
    unets: the network of each stage.
    scheduler: a scheduler config of diffusers.
    """

    card: Card
    text: MaskedEncoder
    text_encoder_ref: TextEncoderRef
    stages: tuple[StageConfig, ...]
    unets: tuple[EfficientUNet, ...]
    scheduler: Config


def read_components(folder: Path) -> ImagenComponents:
    """Read a folder that `save_components` wrote, in float32 on the CPU.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    path = folder / "config.json"
    config = read_json(path)
    card = read_card(folder)
    try:
        stages = tuple(StageConfig(**stage) for stage in config["stages"])
        text_encoder_ref, scheduler = TextEncoderRef.from_config(config["text"]), dict(config["scheduler"])
        if not stages:
            raise ValueError("it has no stages")
        for stage in stages:
            DynamicThresholding(stage.p, stage.cap)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadWeights(f"{str(path)!r} describes no Imagen: {first_line(error)}") from None
    unets = tuple(
        read_module(folder / _name(number), EfficientUNet.from_config, current_key)
        for number in range(len(stages))
    )
    components = ImagenComponents(
        card, text_encoder_ref.open(shipped_part("clip")), text_encoder_ref, stages, unets, scheduler
    )
    _check_fit(folder, components)
    return components


def save_components(components: ImagenComponents, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the painter's folder, completely or not at all; the text encoder is not part of it.

    Raises:
        BadWeights: a value does not fit into `dtype`.
        DanqingError: the folder cannot be written.
    """
    config: dict[str, Any] = {
        "text": components.text_encoder_ref.to_config(),
        "scheduler": components.scheduler,
        "stages": [asdict(stage) for stage in components.stages],
    }
    with replacing_folder(folder) as draft:
        for number, unet in enumerate(components.unets):
            write_module(unet, unet.to_config(), draft / _name(number), _STEM, dtype)
        write_json(config, draft / "config.json")
        write_json(components.card.model_dump(mode="json"), draft / "card.json")


def _name(number: int) -> str:
    """The folder of a stage's network."""
    return f"stage_{number}" if number else "base"


def _check_fit(folder: Path, components: ImagenComponents) -> None:
    """Check that the components fit together.

    Raises:
        BadWeights: they do not; the message names the sizes that differ.
    """
    width, pixels = components.text.model.config.hidden_size, components.unets[0].config.channels
    for number, unet in enumerate(components.unets):
        concat_channels = pixels if number else 0
        if (unet.config.channels, unet.config.concat_channels) != (pixels, concat_channels):
            raise BadWeights(
                f"{str(folder / _name(number))!r} paints {unet.config.channels} channels beside "
                f"{unet.config.concat_channels}, where its place asks for {pixels} beside {concat_channels}: "
                "put the stages in order"
            )
        if unet.config.text != width:
            raise BadWeights(
                f"{str(folder / _name(number))!r} wants words of width {unet.config.text}, "
                f"the text encoder gives {width}: name the one it learned with in config.json"
            )
