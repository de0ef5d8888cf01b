"""The components of Stable Diffusion: builds each one from its config, and maps outdated tensor names."""

from __future__ import annotations

import re
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from pydantic import ValidationError
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from danqing.core.errors import BadWeights
from danqing.weights.config_checks import (
    SchedulerFields,
    TextFields,
    TokenizerFields,
    UNetFields,
    VAEFields,
)
from danqing.weights.pretrained import Config, read_json
from danqing.weights.tensor_files import first_line, printable

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def build_text(config: Config) -> CLIPTextModel:
    """Build the text encoder of a config. Raises ValueError: a value is wrong."""
    kind = config.get("model_type", "clip_text_model")
    if kind != "clip_text_model":
        raise ValueError(f"model_type {kind!r}, not clip_text_model")
    return CLIPTextModel(CLIPTextConfig.from_dict(TextFields.check(config)))


def build_unet(config: Config) -> UNet2DConditionModel:
    """Build the UNet of a config. Raises ValueError: a value is wrong."""
    return UNet2DConditionModel.from_config(UNetFields.check(config))


def build_vae(config: Config) -> AutoencoderKL:
    """Build the VAE of a config. Raises ValueError: a value is wrong."""
    return AutoencoderKL.from_config(VAEFields.check(config))


def text_key(name: str) -> str | None:
    """The name without `text_model.`, which transformers 5 dropped; None for stored position_ids."""
    name = name.removeprefix("text_model.")
    return None if name.endswith("position_ids") else name


def attention_key(name: str) -> str:
    """The present name of an attention projection.

    Before version 0.15 diffusers used the names of the paper's code.
    """
    return re.sub(
        r"(attentions\.\d+)\.(query|key|value|proj_attn)\.",
        lambda match: f"{match[1]}.{OLD_ATTENTION[match[2]]}.",
        name,
    )


def build_projected_text(config: Config) -> CLIPTextModelWithProjection:
    """Build the second text encoder of Stable Diffusion XL. Raises ValueError: a value is wrong."""
    return CLIPTextModelWithProjection(CLIPTextConfig.from_dict(TextFields.check(config)))


def projected_key(name: str) -> str | None:
    """As `text_key`, for an encoder with a projection, whose names keep the prefix."""
    inner = text_key(name)
    return inner if inner is None or inner.startswith("text_projection") else f"text_model.{inner}"


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """Read the tokenizer in a folder.

    Raises:
        BadWeights: it is missing, incomplete or damaged.
    """
    # without its files transformers silently makes an empty tokenizer, or one without merges
    if not any(
        all((folder / name).is_file() for name in names)
        for names in (("tokenizer.json",), ("vocab.json", "merges.txt"))
    ):
        raise BadWeights(
            f"no tokenizer.json, or vocab.json with merges.txt, in {str(folder)!r}: fetch it all again"
        )
    settings = folder / "tokenizer_config.json"
    try:
        TokenizerFields.check(read_json(settings) if settings.is_file() else {})
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except ValidationError as error:
        raise BadWeights(f"{str(settings)!r}: {first_line(error)}: fetch it again") from None
    except BadWeights:
        raise
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise BadWeights(f"{str(folder)!r} cannot be read ({first_line(error)}): fetch it again") from None
    _check_merges(folder, tokenizer)
    return tokenizer


def read_scheduler(path: Path) -> Config:
    """Read the config of a scheduler.

    Raises:
        BadWeights: a value is wrong; the message names it.
    """
    config = read_json(path)
    try:
        return SchedulerFields.check(config)
    except ValidationError as error:
        name = str(config.get("_class_name", "another program"))
        raise BadWeights(
            f"{str(path)!r}, of {printable(name)}: {first_line(error)}: fetch it again, or give a model of "
            "Stable Diffusion"
        ) from None


def _check_merges(folder: Path, tokenizer: CLIPTokenizer) -> None:
    """Check that the tokenizer merges letters into words, if its vocabulary has words.

    Raises:
        BadWeights: it does not, so that every prompt would be misread.
    """
    word = next((word for word in tokenizer.get_vocab() if re.fullmatch(r"[a-z]{3,}</w>", word)), None)
    if word and len(tokenizer.tokenize(word.removesuffix("</w>"))) == len(word.removesuffix("</w>")):
        raise BadWeights(f"{str(folder)!r} has no merges: fetch the whole folder again")
