"""A whole Stable Diffusion 1 or 2 in one safetensors file, as CompVis and Stability AI published it.

Read are the weights as trained; a second copy of the UNet (`model_ema.*`) is left alone. The file holds no
tokenizer: CLIP's vocabulary comes from a `tokenizer` folder beside it, or from an installed open_clip.

It rarely tells what the UNet predicts either. A JSON file of the same name beside it has the first word
(`model.json` for `model.safetensors`: {"prediction_type": "v_prediction"}), then `modelspec.prediction_type`
in the file's metadata. If both are silent, Stable Diffusion 1 predicts epsilon. Stable Diffusion 2 came with
either, under the same names in the same shapes: nothing is assumed, and without either the file
is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from danqing.core.card import Card
from danqing.core.errors import BadWeights
from danqing.diffusion.prediction import Prediction
from danqing.weights.diffusers_folder import Parts, derived_card, read_tokenizer
from danqing.weights.ldm_configs import (
    AUTOENCODER,
    CONV_IN,
    KINDS,
    SCHEDULER,
    UNET,
    Kind,
    autoencoder_config,
    side,
    text_config,
    unet_config,
)
from danqing.weights.ldm_keys import Table, autoencoder_table, rename, unet_table, unfused
from danqing.weights.open_clip import open_clip_tokenizer
from danqing.weights.pretrained import (
    Config,
    Header,
    check_keys,
    first_line,
    read_header,
    read_json,
    read_tensors,
    refuse_pickle,
)

M = TypeVar("M", bound=nn.Module)

# In a part, but not of it. Stable Diffusion 2 stops before the last of OpenCLIP-H's 24 blocks
_BESIDES = re.compile(
    r"position_ids$|text_projection|logit_scale$|attn_mask$|transformer\.resblocks\.23\."
    r"|^first_stage_model\.(loss|model_ema)\."
)

_ONLY = "only Stable Diffusion 1 and 2 can be opened"
_OTHERS = (  # what a name in the file looks like, what such a file is, what to do
    (r"^conditioner\.embedders\.", "Stable Diffusion XL", _ONLY),
    (r"(^|\.)joint_blocks\.", "Stable Diffusion 3", _ONLY),
    (r"(^|\.)double_blocks\.", "FLUX.1", _ONLY),
    (r"(^|[._])lora[._]|\.hada_w|\.lokr_w", "a LoRA and no model", "give the model that it changes"),
    (r"^control_model\.|^controlnet_|^input_hint_block\.", "a ControlNet and no model", _ONLY),
    (r"^(down|mid|up)_blocks?\.", "one part of a diffusers folder", "give the folder of all parts"),
    (r"^(encoder|decoder)\.", "an autoencoder alone", "give the whole model"),
    (r"^text_model\.", "a text encoder alone", "give the whole model"),
    (r"^(emb_params|string_to_param)", "a textual inversion and no model", "give the model that knows it"),
)
_MORE_CHANNELS = {  # what a UNet takes beside its latents
    3: "an upscaler",
    4: "an instruct-pix2pix model",
    5: "an inpainting model",
}


def read_single_file(path: Path) -> Parts:
    """The parts in an original checkpoint, in float32 on the CPU.

    Raises:
        BadWeights: in one line that names the file, what it is or lacks, and what to do.
    """
    refuse_pickle(path)
    header = read_header(path)
    header = replace(header, shapes={k: v for k, v in header.shapes.items() if not _BESIDES.search(k)})
    _refuse_others(header)
    kind = _kind_of(header)
    _check_channels(header)
    prediction = _prediction_of(header, kind)
    text = text_config(header, kind)
    tokenizer = _tokenizer_of(path, kind, text["vocab_size"])
    unet, vae = unet_config(header, kind, prediction), autoencoder_config(header)
    _check_words(path, unet, text)
    unet_module = _read(header, UNET, lambda: UNet2DConditionModel(**unet), unet_table(unet))
    vae_module = _read(header, AUTOENCODER, lambda: AutoencoderKL(**vae), autoencoder_table(vae))
    return Parts(
        unet=unet_module,
        vae=vae_module,
        text_encoder=_read(
            header, kind.text, lambda: _tower(text, tokenizer), kind.table(text["num_hidden_layers"])
        ),
        tokenizer=tokenizer,
        scheduler={**SCHEDULER, "prediction_type": prediction},
        card=_card(path, kind, unet_module, vae_module),
    )


def _refuse_others(header: Header) -> None:
    """The file is a whole model with the keys of Stable Diffusion.

    Raises:
        BadWeights: naming what it is instead.
    """
    path = str(header.path)
    for pattern, what, fix in _OTHERS:
        if any(re.search(pattern, name) for name in header.shapes):
            raise BadWeights(f"{path!r} is {what}: {fix}")
    parts = {"UNet": CONV_IN, "autoencoder": AUTOENCODER, "text encoder": "cond_stage_model."}
    lacks = [what for what, head in parts.items() if not any(name.startswith(head) for name in header.shapes)]
    if len(lacks) == len(parts):
        first = next(iter(header.shapes), None)
        holds = f"tensors of another program, such as {first}" if first else "no tensors"
        raise BadWeights(f"{path!r} holds {holds}: {_ONLY}")
    if lacks:
        raise BadWeights(f"{path!r} holds no {' and no '.join(lacks)}: give a copy of the whole model")


def _kind_of(header: Header) -> Kind:
    for kind in KINDS:
        if any(name.startswith(kind.text) for name in header.shapes):
            return kind
    raise BadWeights(f"{str(header.path)!r} holds a text encoder of another kind: {_ONLY}")


def _prediction_of(header: Header, kind: Kind) -> str:
    """The `prediction_type`, as the module says above.

    Raises:
        BadWeights: it is not written where it must be, or unknown.
    """
    path, sidecar = header.path, header.path.with_suffix(".json")
    prediction = read_json(sidecar).get("prediction_type") if sidecar.is_file() else None
    prediction = prediction or header.metadata.get("modelspec.prediction_type") or kind.predicts
    if prediction is None:
        raise BadWeights(
            f"{str(path)!r} is {kind.title} and does not say what it predicts: write into {str(sidecar)!r} "
            f'{{"prediction_type": "v_prediction"}} if it paints 768 pixels, "epsilon" if 512'
        )
    try:
        return Prediction("v_prediction" if prediction == "v" else prediction).value
    except BadWeights as error:
        raise BadWeights(f"{str(path)!r}: {error}") from None


def _tokenizer_of(path: Path, kind: Kind, rows: int) -> CLIPTokenizer:
    """CLIP's tokenizer, which pads as models of this kind were trained.

    Raises:
        BadWeights: there is none, or it is not for a text encoder of so many rows.
    """
    folder = path.parent / "tokenizer"
    tokenizer = read_tokenizer(folder) if folder.is_dir() else open_clip_tokenizer()
    if tokenizer is None:
        raise BadWeights(
            f"{str(path)!r} holds no vocabulary, as all files of its kind: put the tokenizer folder of any "
            f"{kind.title} in diffusers layout at {str(folder)!r}, or pip install open_clip_torch"
        )
    if len(tokenizer) != rows:
        raise BadWeights(
            f"{str(path)!r} knows {rows} tokens, the tokenizer found for it has {len(tokenizer)}: "
            f"put the one that it was trained with at {str(folder)!r}"
        )
    tokenizer.pad_token = kind.pad
    return tokenizer


def _check_channels(header: Header) -> None:
    """The UNet takes latents, and a depth map at most.

    Raises:
        BadWeights: naming what it is for, if not to paint from words alone.
    """
    takes, latents = side(header, CONV_IN, 1), side(header, f"{AUTOENCODER}decoder.conv_in.weight", 1)
    if takes not in (latents, latents + 1):
        what = _MORE_CHANNELS.get(takes - latents, "of a UNet and another model's autoencoder")
        raise BadWeights(
            f"{str(header.path)!r} is {what} (the UNet takes {takes} channels, the latents have {latents}): "
            f"only models that paint from words, or by a depth map, can be opened"
        )


def _check_words(path: Path, unet: Config, text: Config) -> None:
    """The UNet reads what the text encoder says.

    Raises:
        BadWeights: naming the widths that differ.
    """
    width, wants = text["hidden_size"], unet["cross_attention_dim"]
    if width != wants:
        raise BadWeights(
            f"{str(path)!r}: the UNet wants words of width {wants}, the text encoder gives {width}: {_ONLY}"
        )


def _read(header: Header, head: str, build: Callable[[], M], table: Table) -> M:
    """The module that the tensors whose names begin with `head` belong to, in evaluation mode.

    Raises:
        BadWeights: its config describes no network, or the first offending key in the file's own naming.
    """
    path = header.path
    try:
        module = build()
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise BadWeights(
            f"{str(path)!r}: {head}* is no known network: {first_line(error)}; {_ONLY}"
        ) from None
    stored = unfused(read_tensors(path, [name for name in header.shapes if name.startswith(head)]))
    state = module.state_dict()
    theirs = {name: head + rename(table, name) for name in state}
    shapes = {theirs[name]: tensor for name, tensor in state.items()}
    tensors = {key: _as_linear(tensor, shapes.get(key)) for key, tensor in stored.items()}
    check_keys(path, tensors, shapes, _ONLY)
    module.load_state_dict({name: tensors[key] for name, key in theirs.items()})
    return module.eval()


def _as_linear(tensor: Tensor, like: Tensor | None) -> Tensor:
    """A 1x1 convolution as the matrix that the autoencoder's attention has today."""
    if like is not None and tensor.shape == (*like.shape, 1, 1):
        return tensor[:, :, 0, 0]
    return tensor


def _tower(config: Config, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    marks = ("bos_token_id", "eos_token_id", "pad_token_id")
    return CLIPTextModel(CLIPTextConfig(**config, **{mark: getattr(tokenizer, mark) for mark in marks}))


def _card(path: Path, kind: Kind, unet: UNet2DConditionModel, vae: AutoencoderKL) -> Card:
    card = derived_card(path.stem, unet, vae, None)
    summary = f"{kind.title} for pictures of {card.width} x {card.height}"
    return card.model_copy(update={"summary": summary, "licence": "unknown: ask whoever made the file"})
