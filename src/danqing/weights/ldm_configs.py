"""Derives the configs of the networks in an original Stable Diffusion file from the shapes of their tensors.

The shapes do not show: the 32 groups of every norm, the 64 channels per head of text encoders, and the
fields of `Kind`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from danqing.core.errors import BadWeights
from danqing.weights.detect import REFINER, SD1, SD2, SDXL
from danqing.weights.ldm_keys import Table, clip_table, open_clip_table, rename
from danqing.weights.pretrained import Config
from danqing.weights.tensor_files import Header

UNET, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."
CONV_IN = f"{UNET}input_blocks.0.0.weight"

_HEAD = 64  # channels per head in every text encoder


@dataclass(frozen=True)
class TextEncoderFormat:
    """How a text encoder is stored.

    head: prefix of its tensor names.
    blocks: prefix of its blocks' names.
    table: makes the table of names for a number of blocks.
    act: its activation function.
    pad: the token after the end of a text.
    projected: whether its pooled and projected state is used.
    besides: pattern of stored tensors that are not used.
    """

    head: str
    blocks: str
    table: Callable[[int], Table]
    act: str
    pad: str
    projected: bool = False
    besides: str = r"text_projection|logit_scale$|attn_mask$|position_ids$"

    @property
    def first(self) -> str:
        """The name of a tensor that every such encoder has."""
        return self.head + rename(self.table(1), "embeddings.token_embedding.weight")


@dataclass(frozen=True)
class Kind:
    """One generation of Stable Diffusion, recognised by where its text encoders are.

    title: its name.
    text_encoders: how they are stored.
    heads: number of channels in a UNet level -> number of heads.
    predicts: the prediction type; None if such files have either.
    sides: native sides in pixels by prediction type.
    scale: scaling factor of the latents.
    zero_negative: as in `StableDiffusionComponents`.
    """

    title: str
    text_encoders: tuple[TextEncoderFormat, ...]
    heads: Callable[[int], int]
    predicts: str | None
    sides: dict[str, int]
    scale: float = 0.18215
    zero_negative: bool = True


_CLIP = TextEncoderFormat(
    head="cond_stage_model.transformer.text_model.",
    blocks="encoder.layers.",
    table=clip_table,
    act="quick_gelu",
    pad="<|endoftext|>",
)
_OPEN_CLIP = TextEncoderFormat(
    head="cond_stage_model.model.",
    blocks="transformer.resblocks.",
    table=open_clip_table,
    act="gelu",
    pad="!",  # its id is 0, with which the original code pads
    # Stable Diffusion 2 stops before the last of OpenCLIP-H's 24 blocks
    besides=rf"{_CLIP.besides}|transformer\.resblocks\.23\.",
)
_SD1 = Kind(
    title=SD1,
    text_encoders=(_CLIP,),
    heads=lambda _channels: 8,
    predicts="epsilon",
    sides={"epsilon": 512, "v_prediction": 512},
)
_SD2 = Kind(
    title=SD2,
    text_encoders=(_OPEN_CLIP,),
    heads=lambda channels: channels // 64,
    predicts=None,
    sides={"epsilon": 512, "v_prediction": 768},
)
_SDXL = Kind(
    title=SDXL,
    text_encoders=(
        replace(_CLIP, head="conditioner.embedders.0.transformer.text_model."),
        replace(
            _OPEN_CLIP,
            head="conditioner.embedders.1.model.",
            projected=True,
            besides=r"logit_scale$|attn_mask$",
        ),
    ),
    heads=lambda channels: channels // 64,
    predicts="epsilon",
    sides={"epsilon": 1024, "v_prediction": 1024},
    scale=0.13025,
)
_REFINER = replace(
    _SDXL,
    title=REFINER,
    text_encoders=(replace(_SDXL.text_encoders[1], head="conditioner.embedders.0.model."),),
    zero_negative=False,
)
KINDS = (
    _SD1,
    # the prefix in some merged models
    replace(_SD1, text_encoders=(replace(_CLIP, head="cond_stage_model.transformer."),)),
    _SD2,
    _SDXL,
    _REFINER,
)

SCHEDULER: Config = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "timestep_spacing": "leading",
    "rescale_betas_zero_snr": False,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def side(header: Header, name: str, axis: int) -> int:
    """The length of a tensor along an axis.

    Raises:
        BadWeights: the file has no such tensor, or it has fewer axes.
    """
    shape = header.shapes.get(name)
    if shape is None or len(shape) <= axis:
        lack = f"lacks {name}" if shape is None else f"has {name} of shape {list(shape)}"
        raise BadWeights(f"{str(header.path)!r} {lack}: it is no whole Stable Diffusion, fetch it again")
    return shape[axis]


def unet_config(header: Header, kind: Kind, prediction: str) -> Config:
    """The config of a `UNet2DConditionModel`.

    Raises:
        BadWeights: a tensor that the config is derived from is missing.
    """
    config = encoder_config(header, UNET)
    ups = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}
    return {
        **config,
        "sample_size": kind.sides[prediction] // 2 ** (_levels(header) - 1),
        "out_channels": side(header, f"{UNET}out.2.weight", 0),
        "up_block_types": [ups[name] for name in reversed(config["down_block_types"])],
        "attention_head_dim": [  # in diffusers this field is the number of heads
            kind.heads(width) for width in config["block_out_channels"]
        ],
    }


def encoder_config(header: Header, head: str) -> Config:
    """The fields of a UNet's encoder (its down blocks), of which a ControlNet is a copy.

    head: prefix of its tensor names.

    Raises:
        BadWeights: a tensor that the fields are derived from is missing.
    """
    blocks = count(header, f"{head}input_blocks.")
    halvings = [k for k in range(blocks) if f"{head}input_blocks.{k}.0.op.weight" in header.shapes]
    firsts = [1, *(k + 1 for k in halvings)]  # the first block of each level
    words = [f"{head}input_blocks.{k}.1.proj_in.weight" in header.shapes for k in firsts]
    middle = f"{head}middle_block.1"
    depths = [count(header, f"{head}input_blocks.{k}.1.transformer_blocks.") for k in firsts]
    depths[-1] = count(header, f"{middle}.transformer_blocks.")  # the middle has as many as the last level
    return {
        "in_channels": side(header, f"{head}input_blocks.0.0.weight", 1),
        "block_out_channels": [
            side(header, f"{head}input_blocks.{k}.0.out_layers.3.weight", 0) for k in firsts
        ],
        "layers_per_block": (halvings[0] if halvings else blocks) - 1,
        "down_block_types": ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in words],
        "cross_attention_dim": side(header, f"{middle}.transformer_blocks.0.attn2.to_k.weight", 1),
        "use_linear_projection": len(header.shapes.get(f"{middle}.proj_in.weight", ())) == 2,
        "transformer_layers_per_block": [depth or 1 for depth in depths],
        **added_config(header, f"{head}label_emb.0.0.weight"),
    }


def added_config(header: Header, name: str) -> Config:
    """The config of the additional inputs of Stable Diffusion XL: the pooled state and the sizes.

    name: of the first layer that takes them.
    """
    if name not in header.shapes:
        return {}
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": side(header, name, 1),
    }


def vae_config(header: Header, scale: float = 0.18215) -> Config:
    """The config of an `AutoencoderKL`.

    scale: scaling factor of its latents, which the shapes do not show.

    Raises:
        BadWeights: a tensor that the config is derived from is missing.
    """
    encoder, decoder = f"{VAE_PREFIX}encoder", f"{VAE_PREFIX}decoder"
    levels = _levels(header)
    return {
        "in_channels": side(header, f"{encoder}.conv_in.weight", 1),
        "out_channels": side(header, f"{decoder}.conv_out.weight", 0),
        "latent_channels": side(header, f"{decoder}.conv_in.weight", 1),
        "block_out_channels": [
            side(header, f"{encoder}.down.{k}.block.0.conv1.weight", 0) for k in range(levels)
        ],
        "layers_per_block": count(header, f"{encoder}.down.0.block."),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "scaling_factor": scale,
        "sample_size": 512,
    }


def text_config(header: Header, kind: TextEncoderFormat) -> Config:
    """The config of a `CLIPTextModel`, without the ids of special tokens.

    Raises:
        BadWeights: a tensor that the config is derived from is missing.
    """
    layers = count(header, f"{kind.head}{kind.blocks}")
    table = kind.table(max(layers, 1))

    def size(name: str, axis: int) -> int:
        return side(header, kind.head + rename(table, name), axis)

    width = size("embeddings.token_embedding.weight", 1)
    return {
        "vocab_size": size("embeddings.token_embedding.weight", 0),
        "hidden_size": width,
        "intermediate_size": size("encoder.layers.0.mlp.fc1.weight", 0),
        "max_position_embeddings": size("embeddings.position_embedding.weight", 0),
        "num_hidden_layers": layers,
        "num_attention_heads": max(width // _HEAD, 1),
        "hidden_act": kind.act,
        **({"projection_dim": side(header, f"{kind.head}text_projection", 1)} if kind.projected else {}),
    }


def _levels(header: Header) -> int:
    # a file without the encoder is assumed to have the usual number
    return count(header, f"{VAE_PREFIX}encoder.down.") or 4


def count(header: Header, head: str) -> int:
    """The number of different integers that follow `head` in names."""
    return len({name[len(head) :].split(".")[0] for name in header.shapes if name.startswith(head)})
