"""Reads a whole Stable Diffusion 1, 2 or XL from one safetensors file in CompVis' and Stability AI's format.

The trained weights are read; a second, averaged copy of the UNet (`model_ema.*`) is ignored. The file has no
tokenizer: CLIP's vocabulary is shipped with the package; a folder `tokenizer` beside the file replaces it. A
VAE that the file lacks is looked for beside it (`model.vae.safetensors`, or a folder `vae`).

The file rarely contains the prediction type. The first of these that has it counts: files beside it
(`weights/sidecar.py`), keys that fine-tunes leave in the file (`v_pred`, `ztsnr`), and
`modelspec.prediction_type` in its metadata. If none has it, 1 and XL predict epsilon. Stable Diffusion 2 was
published with either, with the same names and shapes: it is decided by the standard deviation of one bias,
which is large in all published v models.

Nor does a file show that it is SD Turbo or SDXL Turbo, which paint in few steps: its name decides, or the
title in its metadata; a file beside it can override that (`timestep_spacing`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from danqing.core.card import Card
from danqing.core.errors import BadWeights
from danqing.diffusion.prediction import Prediction
from danqing.weights.clip_vocabulary import clip_tokenizer
from danqing.weights.components import read_tokenizer
from danqing.weights.detect import FileKind, identify
from danqing.weights.diffusers_folder import TURBO, StableDiffusionComponents, derived_card
from danqing.weights.file_reader import ONLY, FileReader
from danqing.weights.ldm_configs import (
    CONV_IN,
    KINDS,
    SCHEDULER,
    UNET,
    VAE_PREFIX,
    Kind,
    TextEncoderFormat,
    side,
    text_config,
    unet_config,
    vae_config,
)
from danqing.weights.ldm_keys import unet_table, vae_table
from danqing.weights.pretrained import Config
from danqing.weights.sidecar import PREDICTIONS, read_sidecar
from danqing.weights.tensor_files import Header, printable, read_header, read_tensors, refuse_pickle
from danqing.weights.vae import read_vae

_ALONE = {  # kind of file that is no whole model -> (addition to its name, what to do) for the message
    FileKind.LORA: (" and no model", "give the model that it changes, and this with --adapter"),
    FileKind.WORD: (" and no model", "give the model that it was learned on, and this with --adapter"),
    FileKind.CONTROLNET: (
        " and no model",
        "give the model that it steers, and this with --control and --control-model",
    ),
    FileKind.T2I_ADAPTER: (
        " and no model",
        "give the model that it steers, and this with --control and --control-model",
    ),
    FileKind.IP_ADAPTER: (
        " and no model",
        "give the model that looks at a picture, the picture with --ip-image, and this with --ip-adapter",
    ),
    FileKind.IMAGE_ENCODER: (" alone", "IP-Adapters read with it: put it into the folder image_encoder"),
    FileKind.VAE: (" alone", "give the whole model"),
    FileKind.TEXT_ENCODER: (" alone", "give the whole model"),
    FileKind.NETWORK: ("", "give the whole model, its folder or its file"),
}
# input channels of a UNet besides its latents -> what it is
_MORE_CHANNELS = {3: "an upscaler", 4: "an instruct-pix2pix model"}
_TURBO_NAME = re.compile(r"(?:^|[^a-z]|sd|xl)turbo(?:[^a-z]|$)")
_BIAS = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"
_WIDE = 0.09  # least standard deviation of that bias in v models of Stable Diffusion 2


def read_single_file(path: Path, dtype: torch.dtype | None = torch.float32) -> StableDiffusionComponents:
    """Read the components in an original checkpoint, on the CPU.

    dtype: of the networks; None keeps the stored one and maps the file from disk.

    Raises:
        BadWeights: the message names the file, what it is or lacks, and what to do.
    """
    refuse_pickle(path)
    header = read_header(path)
    kind = _kind_of(header)
    reader = FileReader(_without_unused(header, kind), dtype)
    scheduler = _scheduler_of(reader.header, kind)
    vae = _read_vae(reader, kind)
    _check_channels(reader.header, vae.config.latent_channels)
    fields = unet_config(reader.header, kind, scheduler["prediction_type"])
    text_encoders = [_read_text_encoder(reader, encoder) for encoder in kind.text_encoders]
    _check_words(path, fields, sum(int(encoder.config.hidden_size) for _, encoder in text_encoders))
    unet = reader.module(UNET, lambda: UNet2DConditionModel(**fields), unet_table(fields))
    tokenizer_2, text_encoder_2 = text_encoders[1] if len(text_encoders) > 1 else (None, None)
    return StableDiffusionComponents(
        unet=unet,
        vae=vae,
        text_encoder=text_encoders[0][1],
        tokenizer=text_encoders[0][0],
        scheduler=scheduler,
        card=_card(kind, scheduler, derived_card(path.stem, unet, vae, None, scheduler)),
        tokenizer_2=tokenizer_2,
        text_encoder_2=text_encoder_2,
        zero_negative=kind.zero_negative,
    )


def _without_unused(header: Header, kind: Kind) -> Header:
    """The header without tensors of the parts that are not used."""
    besides = {VAE_PREFIX: r"^first_stage_model\.(loss|model_ema)\."}
    besides |= {encoder.head: encoder.besides for encoder in kind.text_encoders}
    unused = {
        name
        for head, pattern in besides.items()
        for name in header.shapes
        if name.startswith(head) and re.search(pattern, name)
    }
    return replace(header, shapes={name: s for name, s in header.shapes.items() if name not in unused})


def _kind_of(header: Header) -> Kind:
    """The generation of a whole model.

    Raises:
        BadWeights: it is no whole model; the message names what it is, or what it lacks.
    """
    path, info = str(header.path), identify(header)
    if info.kind is FileKind.OTHER:
        first = next(iter(header.shapes), None)
        holds = f"tensors of another program, such as {printable(first)}" if first else "no tensors"
        raise BadWeights(f"{path!r} holds {holds}: {ONLY}")
    titles = {kind.title for kind in KINDS}
    if info.family and info.family not in titles and info.kind in (FileKind.CHECKPOINT, FileKind.NETWORK):
        raise BadWeights(f"{path!r} is {info.family}: {ONLY}")
    if info.kind is not FileKind.CHECKPOINT:
        alone, fix = _ALONE.get(info.kind, ("", ONLY))
        raise BadWeights(f"{path!r} is {info}{alone}: {fix}")
    for part in ("UNet", "text encoder"):
        if part not in info.parts:
            raise BadWeights(f"{path!r} holds no {part}: give a copy of the whole model")
    for kind in KINDS:
        if all(encoder.first in header.shapes for encoder in kind.text_encoders):
            return kind
    raise BadWeights(f"{path!r} holds a text encoder of another kind: {ONLY}")


def _scheduler_of(header: Header, kind: Kind) -> Config:
    """The scheduler's config; the module's docstring has the order of its sources.

    Raises:
        BadWeights: a file beside the model cannot be read, or the prediction type is unknown.
    """
    fields = read_sidecar(header.path)
    prediction = fields.get("prediction_type") or identify(header).prediction or kind.predicts
    if prediction is None:
        bias = read_tensors(header.path, [_BIAS]).get(_BIAS) if _BIAS in header.shapes else None
        prediction = "v_prediction" if bias is not None and bias.std() > _WIDE else "epsilon"
    if _is_turbo(header):
        fields = {**TURBO, **fields}
    if "ztsnr" in header.shapes:
        fields = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", **fields}
    try:
        fields["prediction_type"] = Prediction(PREDICTIONS.get(prediction, prediction)).value
    except BadWeights as error:
        raise BadWeights(f"{str(header.path)!r}: {error}") from None
    return {**SCHEDULER, **fields}


def _is_turbo(header: Header) -> bool:
    """Whether it is SD Turbo or SDXL Turbo. Its name or title decides, since the weights do not show it."""
    names = header.path.stem, header.metadata.get("modelspec.title", "")
    return any(_TURBO_NAME.search(name.lower()) for name in names)


def _read_text_encoder(reader: FileReader, kind: TextEncoderFormat) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """A text encoder, and a tokenizer that pads as in training."""
    fields = text_config(reader.header, kind)
    tokenizer = _tokenizer_of(reader.header.path, kind, fields["vocab_size"])
    marks = {mark: getattr(tokenizer, mark) for mark in ("bos_token_id", "eos_token_id", "pad_token_id")}
    made = CLIPTextModelWithProjection if kind.projected else CLIPTextModel
    table = kind.table(fields["num_hidden_layers"])
    encoder = reader.module(kind.head, lambda: made(CLIPTextConfig(**fields, **marks)), table)
    return tokenizer, encoder


def _tokenizer_of(path: Path, kind: TextEncoderFormat, rows: int) -> CLIPTokenizer:
    """The tokenizer in a folder beside the file, or CLIP's, which is shipped with the package.

    Raises:
        BadWeights: its vocabulary is not of size `rows`, that of the text encoder.
    """
    folder = path.parent / "tokenizer"
    tokenizer = read_tokenizer(folder) if folder.is_dir() else clip_tokenizer()
    if len(tokenizer) != rows and folder.is_dir():
        tokenizer = clip_tokenizer()
    if len(tokenizer) != rows:
        raise BadWeights(
            f"{str(path)!r} knows {rows} tokens, CLIP has {len(tokenizer)}: put the tokenizer folder that it "
            f"was trained with at {str(folder)!r}"
        )
    tokenizer.pad_token = kind.pad
    return tokenizer


def _read_vae(reader: FileReader, kind: Kind) -> AutoencoderKL:
    """The file's VAE, or the one beside it.

    Raises:
        BadWeights: there is none.
    """
    path = reader.header.path
    if any(name.startswith(VAE_PREFIX) for name in reader.header.shapes):
        fields = vae_config(reader.header, kind.scale)
        return reader.module(VAE_PREFIX, lambda: AutoencoderKL(**fields), vae_table(fields))
    beside, folder = path.with_suffix(".vae.safetensors"), path.parent / "vae"
    for place in (beside, folder):
        if place.exists():
            return read_vae(place, kind.scale, reader.dtype)
    raise BadWeights(
        f"{str(path)!r} holds no VAE: put one for {kind.title} beside it as {beside.name!r}, or as "
        "the folder 'vae'"
    )


def _check_channels(header: Header, latents: int) -> None:
    """Check that the UNet takes only latents, perhaps with a depth map or with mask and masked latents.

    Raises:
        BadWeights: it takes other inputs; the message names its purpose.
    """
    takes = side(header, CONV_IN, 1)
    if takes not in (latents, latents + 1, 2 * latents + 1):
        what = _MORE_CHANNELS.get(takes - latents, "of a UNet and another model's VAE")
        raise BadWeights(
            f"{str(header.path)!r} is {what} (the UNet takes {takes} channels, the latents have {latents}): "
            "only models that paint from words, by a depth map or inside a mask can be opened"
        )


def _check_words(path: Path, unet: Config, width: int) -> None:
    """Check that the UNet takes token states of the text encoders' width.

    Raises:
        BadWeights: the widths differ; the message names them.
    """
    wants = unet["cross_attention_dim"]
    if width != wants:
        raise BadWeights(
            f"{str(path)!r}: the UNet wants words of width {wants}, the text encoder gives {width}: {ONLY}"
        )


def _card(kind: Kind, scheduler: Config, card: Card) -> Card:
    v = ", predicting v" if scheduler["prediction_type"] == "v_prediction" else ""
    summary = f"{kind.title} for pictures of {card.width} x {card.height}{v}"
    changes = {"summary": summary, "licence": "unknown: ask whoever made the file"}
    if scheduler.items() >= TURBO.items():
        changes["note"] = (
            f"{card.name} is taken for a Turbo model by its name: {card.steps} steps of {card.sampler}, "
            f"guidance {card.guidance:g}; choose others with --steps, --guidance and --sampler"
        )
    return card.model_copy(update=changes)
