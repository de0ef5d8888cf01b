"""Detects what a file of weights is, from the tensor names and shapes in its header.

A table has one line for each kind of file: a pattern of tensor names, the kind, and the model family. The
first line that matches counts. Only the header is read, so a file of many gigabytes takes milliseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from danqing.weights.tensor_files import Header

SD1, SD2, SDXL = "Stable Diffusion 1", "Stable Diffusion 2", "Stable Diffusion XL"
SD3, FLUX = "Stable Diffusion 3", "FLUX.1"
REFINER = "the refiner of Stable Diffusion XL"
UNKNOWN = ""


class FileKind(StrEnum):
    """The kinds of weight files."""

    CHECKPOINT = "a whole model"
    NETWORK = "a denoising network alone"
    LORA = "a LoRA"
    WORD = "a learned word"
    VAE = "a VAE"
    CONTROLNET = "a ControlNet"
    T2I_ADAPTER = "a T2I-Adapter"
    IP_ADAPTER = "an IP-Adapter"
    UPSCALER = "an upscaler"
    TEXT_ENCODER = "a text encoder"
    IMAGE_ENCODER = "an image encoder"
    OTHER = "tensors of another program"


@dataclass(frozen=True)
class FileInfo:
    """What a file is.

    kind: the kind of file.
    family: the model generation; empty if the header does not show it.
    prediction: what the network predicts; empty if the header does not show it.
    channels: input channels of the network; 0 if the file has no network.
    parts: the parts of a whole model that it contains.
    tensors: number of tensors.
    """

    kind: FileKind
    family: str
    prediction: str = ""
    channels: int = 0
    parts: tuple[str, ...] = ()
    tensors: int = 0

    def __str__(self) -> str:
        of = f" of {self.family}" if self.family else ""
        return f"{self.kind}{of}"


# (pattern of names, kind, family); family None means that it follows from widths. The first match counts.
_TABLE: tuple[tuple[str, FileKind, str | None], ...] = (
    (r"^lora_\w+_(double|single)_blocks_|single_transformer_blocks\..*lora", FileKind.LORA, FLUX),
    (r"^lora_unet_joint_blocks_|^transformer\..*add_k_proj.*lora", FileKind.LORA, SD3),
    (r"transformer_blocks\.\d+\.(img|txt)_m(od|lp).*lora_", FileKind.LORA, "Qwen-Image"),
    (
        r"(^|[._])lora(_|\.|$)|\.lora_|\.hada_w|\.lokr_w|\.dora_scale$|\.oft_|\.(on_input|diff|diff_b)$",
        FileKind.LORA,
        None,
    ),
    (r"^(emb_params|string_to_param)|^(clip_l|clip_g)$", FileKind.WORD, None),
    (r"(^|\.)joint_blocks\.", FileKind.NETWORK, SD3),
    (r"(^|\.)(double_blocks|single_transformer_blocks)\.", FileKind.NETWORK, FLUX),
    (r"(^|\.)(x_pad_token|cap_pad_token)$|(^|\.)all_x_embedder\.", FileKind.NETWORK, "Z-Image"),
    (r"(^|\.)(noise_refiner|context_refiner)\.", FileKind.NETWORK, "Lumina"),
    (r"(^|\.)transformer_blocks\.\d+\.(img|txt)_mod\.", FileKind.NETWORK, "Qwen-Image"),
    (r"(^|\.)transformer_blocks\.\d+\.attn\.add_k_proj\.", FileKind.NETWORK, SD3),
    (
        r"(^|\.)y_embedder\.y_embedding$|(^|\.)t_block\.1\.|^adaln_single\..*|^caption_projection\.",
        FileKind.NETWORK,
        "PixArt",
    ),
    (
        r"(^|\.)(encoder_hid_proj\.image_embeds|add_embedding\.image_norm|visual_transformer_blocks\.)",
        FileKind.NETWORK,
        "Kandinsky",
    ),
    (r"(^|\.)clip_txt(_pooled)?_mapper\.", FileKind.NETWORK, "Stable Cascade"),
    (r"(^|\.)double_layers\.\d+\.attn\.w1q", FileKind.NETWORK, "AuraFlow"),
    (r"(^|\.)(text_embedding_padding$|mlp_t5\.)", FileKind.NETWORK, "HunyuanDiT"),
    (r"(^|(?<!embeddings)\.)patch_embedding\.weight$", FileKind.NETWORK, "Wan"),
    (
        r"^control_model\.|^controlnet_|(^|\.)(input_hint_block|controlnet_cond_embedding)\.",
        FileKind.CONTROLNET,
        None,
    ),
    (r"^(image_proj|ip_adapter)\.", FileKind.IP_ADAPTER, None),
    (r"^adapter\.(body|conv_in)\.|^body\.\d+\.(in_conv|block1)\.", FileKind.T2I_ADAPTER, None),
    (r"^conditioner\.embedders\.1\.model\.", FileKind.CHECKPOINT, SDXL),
    (r"^conditioner\.embedders\.0\.model\.", FileKind.CHECKPOINT, REFINER),
    (r"^cond_stage_model\.model\.", FileKind.CHECKPOINT, SD2),
    (r"^cond_stage_model\.transformer\.", FileKind.CHECKPOINT, SD1),
    (r"^model\.diffusion_model\.", FileKind.CHECKPOINT, None),
    (
        r"^(RRDB_trunk|trunk|model\.1\.sub)\.|^body\.\d+\.rdb1\.|^layers\.0\.residual_group\.",
        FileKind.UPSCALER,
        UNKNOWN,
    ),
    (r"^(down|mid|up)_blocks?\.|^(input_blocks|middle_block|output_blocks)\.", FileKind.NETWORK, None),
    (
        r"^(first_stage_model\.|vae\.)?(encoder|decoder)\.(conv_in|conv_out|down|mid|up|layers)\b",
        FileKind.VAE,
        None,
    ),
    (r"^encoder\.block\.0\.layer\.|^shared\.weight$", FileKind.TEXT_ENCODER, "T5"),
    (r"^(text_model|transformer\.resblocks|cond_stage_model)\.", FileKind.TEXT_ENCODER, "CLIP"),
    (r"^(vision_model|visual)\.", FileKind.IMAGE_ENCODER, "CLIP"),
)
_ROWS = tuple((re.compile(pattern), kind, family) for pattern, kind, family in _TABLE)

_PARTS = {
    "UNet": re.compile(r"^model\.diffusion_model\.|^(input|down)_blocks\."),
    "VAE": re.compile(r"^first_stage_model\.|^decoder\."),
    "text encoder": re.compile(r"^cond_stage_model\.|^conditioner\.embedders\.0\.|^text_model\."),
    "second text encoder": re.compile(r"^conditioner\.embedders\.1\."),
}
_FIRST = re.compile(r"(^|\.)(input_blocks\.0\.0|conv_in)\.weight$")
_WORDS = re.compile(  # layers that take token states; their width shows the family
    r"attn2[._](processor\.)?to_k(_lora)?\.(weight|(lora\.)?(lora_A|lora_down|down|hada_w1_b)\b.*)$"
    r"|\d\.to_k_ip\.weight$"
)
_WORD_WIDTHS = {768: SD1, 1024: SD2, 1280: REFINER, 2048: SDXL}
# input channels of a T2I-Adapter after pixel unshuffling -> family
_UNSHUFFLED = {64: SD1, 192: SD1, 256: SDXL, 768: SDXL}
_SEES = re.compile(r"^(adapter\.)?(conv_in|body\.0\.in_conv)\.weight$")
_LATENTS = {4: "Stable Diffusion 1, 2 or XL", 16: "Stable Diffusion 3 or FLUX.1"}


def identify(header: Header) -> FileInfo:
    """Detect what the file is; `FileKind.OTHER` if nothing in the table matches."""
    names = header.shapes
    lone = bool(names) and all("." not in name and len(shape) in (1, 2) for name, shape in names.items())
    last = (FileKind.WORD, None) if lone else (FileKind.OTHER, UNKNOWN)
    fitting = ((kind, family) for pattern, kind, family in _ROWS if any(map(pattern.search, names)))
    kind, family = next(fitting, last)
    return FileInfo(
        kind,
        _family_by_width(header, kind) if family is None else family,
        _prediction(header),
        next((shape[1] for name, shape in names.items() if _FIRST.search(name) and len(shape) == 4), 0),
        tuple(part for part, pattern in _PARTS.items() if any(pattern.search(name) for name in names)),
        len(names),
    )


def family_of_width(width: object) -> str:
    """The generation whose token states have this width; empty if there is none."""
    return _WORD_WIDTHS.get(width, UNKNOWN) if isinstance(width, int) else UNKNOWN


def _family_by_width(header: Header, kind: FileKind) -> str:
    shapes = header.shapes
    if kind is FileKind.WORD:
        widths = {shape[-1] for shape in shapes.values() if shape}
        return SDXL if "clip_g" in shapes else _WORD_WIDTHS.get(min(widths, default=0), UNKNOWN)
    if kind is FileKind.VAE:
        latents = (shape for name, shape in shapes.items() if name.endswith("decoder.conv_in.weight"))
        return next((_LATENTS.get(shape[1], UNKNOWN) for shape in latents if len(shape) == 4), UNKNOWN)
    if kind is FileKind.T2I_ADAPTER:
        inputs = (shape[1] for name, shape in shapes.items() if _SEES.match(name) and len(shape) == 4)
        return next((_UNSHUFFLED[width] for width in inputs if width in _UNSHUFFLED), UNKNOWN)
    widths = {shape[1] for name, shape in shapes.items() if _WORDS.search(name) and len(shape) > 1}
    if not widths and any(re.match(r"lora_te2_|text_encoder_2\.", name) for name in shapes):
        return SDXL
    return _WORD_WIDTHS.get(min(widths, default=0), UNKNOWN)


def _prediction(header: Header) -> str:
    """The prediction type as in diffusers' `prediction_type`; empty if the header does not show it."""
    if any(name.startswith("edm_") for name in header.shapes):
        return "edm"
    stated = header.metadata.get("modelspec.prediction_type", "")
    return "v_prediction" if "v_pred" in header.shapes or stated == "v" else stated
