"""The components of Stable Diffusion by themselves: how each is built from its config, and the old names."""

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
    """The text encoder that a config describes; raises ValueError where a value is wrong."""
    kind = config.get("model_type", "clip_text_model")
    if kind != "clip_text_model":
        raise ValueError(f"model_type {kind!r}, not clip_text_model")
    return CLIPTextModel(CLIPTextConfig.from_dict(TextFields.check(config)))


def build_unet(config: Config) -> UNet2DConditionModel:
    """The UNet that a config describes; raises ValueError where a value is wrong."""
    return UNet2DConditionModel.from_config(UNetFields.check(config))


def build_vae(config: Config) -> AutoencoderKL:
    """The VAE that a config describes; raises ValueError where a value is wrong."""
    return AutoencoderKL.from_config(VAEFields.check(config))


def text_key(name: str) -> str | None:
    """Older files prefix `text_model.` and store position_ids; transformers 5 does neither."""
    name = name.removeprefix("text_model.")
    return None if name.endswith("position_ids") else name


def attention_key(name: str) -> str:
    """Files written before diffusers 0.15 name the attention's projections as the paper's code did."""
    return re.sub(
        r"(attentions\.\d+)\.(query|key|value|proj_attn)\.",
        lambda match: f"{match[1]}.{OLD_ATTENTION[match[2]]}.",
        name,
    )


def build_projected_text(config: Config) -> CLIPTextModelWithProjection:
    """The second text encoder of Stable Diffusion XL; raises ValueError where a value is wrong."""
    return CLIPTextModelWithProjection(CLIPTextConfig.from_dict(TextFields.check(config)))


def projected_key(name: str) -> str | None:
    """The same of an encoder with a projection, which has kept its prefix."""
    inner = text_key(name)
    return inner if inner is None or inner.startswith("text_projection") else f"text_model.{inner}"


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer in a folder.

    Raises:
        BadWeights: it is not there, not whole or damaged.
    """
    # without its files transformers makes an empty tokenizer, or one that knows no merges, and says nothing
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
    """The config of a scheduler.

    Raises:
        BadWeights: naming the value that is wrong.
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
    """The tokenizer joins letters to words, if it has any words.

    Raises:
        BadWeights: it does not: every picture would be of something else.
    """
    word = next((word for word in tokenizer.get_vocab() if re.fullmatch(r"[a-z]{3,}</w>", word)), None)
    if word and len(tokenizer.tokenize(word.removesuffix("</w>"))) == len(word.removesuffix("</w>")):
        raise BadWeights(f"{str(folder)!r} has no merges: fetch the whole folder again")
