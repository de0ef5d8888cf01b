"""The names of tensors in LoRA files, in every dialect in use.

    diffusers and peft    unet.<layer>.lora_A.weight, base_model.model.<layer>.lora_A.weight
    diffusers of 2023     unet.<layer>.processor.to_q_lora.down.weight, <layer>.lora.down.weight
    kohya and LyCORIS     lora_unet_<layer>.lora_down.weight, lora_te1_<layer>.hada_w1_a, and so on

Kohya's dialect writes `_` for the dots in a layer's path, and may use the layer names of the original code;
`lora.fit_factors` finds the layer by both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LYCORIS = (
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
)
_ENDS = {  # end of a tensor's name -> its part in the change of the layer
    r"lora_A(?:\.default)?\.weight|lora_down\.weight|lora(?:_linear_layer)?\.down\.weight": "down",
    r"lora_B(?:\.default)?\.weight|lora_up\.weight|lora(?:_linear_layer)?\.up\.weight": "up",
    r"lora_mid\.weight": "mid",
    r"(?:lora(?:_linear_layer)?\.)?alpha": "alpha",
    r"dora_scale|lora_magnitude_vector(?:\.default)?(?:\.weight)?": "magnitude",
    r"diff": "difference",
    r"diff_b": "bias",
    r"weight": "scale",
    r"on_input": "on_input",
    **{name: name for name in _LYCORIS},
}
_END = re.compile("|".join(f"(?P<e{k}>{pattern})" for k, pattern in enumerate(_ENDS)))
_LAYER = re.compile(rf"(?P<layer>.+?)\.(?P<end>{'|'.join(_ENDS)})")
_OLD = re.compile(r"(?P<layer>.+?)(?:\.processor)?\.to_(?P<which>q|k|v|out)_lora\.(?P<end>down|up)\.weight")
_OLD_LAYERS = {  # attention layers, in the UNet and in a text encoder
    "q": ("to_q", "q_proj"),
    "k": ("to_k", "k_proj"),
    "v": ("to_v", "v_proj"),
    "out": ("to_out.0", "out_proj"),
}
_KOHYA = re.compile(r"(?:lora|lycoris)_(?P<network>unet|te\d?)_(?P<layer>[^.]+)")
_NETWORKS = {"unet": "unet", "te": "text_encoder", "te1": "text_encoder", "te2": "text_encoder_2"}
_NAMED = re.compile(r"(?P<network>unet|text_encoder(?:_2)?)\.(?P<layer>.+)")
_TEXT = re.compile(r"^(text_model\.)?(encoder\.layers|embeddings)\.")
_UNET = re.compile(r"^(down_blocks|mid_block|up_blocks|conv_in|conv_out|time_embedding|add_embedding)\b")


@dataclass(frozen=True)
class Entry:
    """A tensor of a file: one part of a layer's change.

    layer: network and path, `unet.mid_block.attentions.0...to_q`, or with `_` for the dots of the path.
    part: down, up, mid, alpha, magnitude, difference, bias, scale, on_input, or a name of LyCORIS.
    """

    layer: str
    part: str


def entry_of(key: str) -> Entry | None:
    """The layer and part of the tensor called `key`; None if no dialect has such a name."""
    if match := _OLD.fullmatch(key):
        layer = _layer_of(match["layer"])
        if layer is None:
            return None
        in_unet, in_text = _OLD_LAYERS[match["which"]]
        return Entry(f"{layer}.{in_unet if layer.startswith('unet.') else in_text}", match["end"])
    match = _LAYER.fullmatch(key)
    layer = _layer_of(match["layer"]) if match else None
    if match is None or layer is None:
        return None
    end = _END.fullmatch(match["end"])
    assert end is not None
    assert end.lastgroup is not None
    return Entry(layer, list(_ENDS.values())[int(end.lastgroup[1:])])


def _layer_of(stem: str) -> str | None:
    """Network and path of a layer, without the prefix of text encoders in older files."""
    if match := _KOHYA.fullmatch(stem):
        return f"{_NETWORKS.get(match['network'], 'unknown')}.{match['layer'].removeprefix('text_model_')}"
    stem = stem.removeprefix("base_model.model.")  # peft's names do not contain the network
    if match := _NAMED.fullmatch(stem):
        return f"{match['network']}.{match['layer'].removeprefix('text_model.')}"
    if _TEXT.match(stem):
        return f"text_encoder.{stem.removeprefix('text_model.')}"
    return f"unet.{stem}" if _UNET.match(stem) else None
