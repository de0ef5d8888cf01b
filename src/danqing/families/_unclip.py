"""unCLIP's networks: sizes, the decoder, and the folder that holds them all.

The folder is laid out as that of diffusers' `UnCLIPPipeline` (Karlo). Instead of a text encoder it has
danqing.json, which names the shipped CLIP by what its weights hash to, and tells what configs cannot.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import PriorTransformer, UNet2DConditionModel
from torch import Tensor

from danqing.core.card import Card
from danqing.core.errors import BadWeights
from danqing.core.painter import Conditioning
from danqing.diffusion.prior import PriorOptions
from danqing.families._clip_space import fingerprint
from danqing.families._diffusers_folder import read_card
from danqing.families._pretrained import (
    Config,
    first_line,
    read_json,
    read_module,
    replacing_folder,
    write_json,
    write_module,
)
from danqing.families._zoo import shipped_part
from danqing.nets.unclip import TextProjection

PRIORS: dict[str, Config] = {
    "tiny": {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_layers": 2,
        "embedding_dim": 32,
        "num_embeddings": 12,
    },
    "sticker": {
        "num_attention_heads": 6,
        "attention_head_dim": 32,
        "num_layers": 3,
        "embedding_dim": 192,
        "num_embeddings": 24,
    },
    "karlo": {
        "num_attention_heads": 32,
        "attention_head_dim": 64,
        "num_layers": 20,
        "embedding_dim": 768,
        "num_embeddings": 77,
    },
}

_DOWN, _DOWN_TEXT = "DownBlock2D", "CrossAttnDownBlock2D"
_UP, _UP_TEXT = "UpBlock2D", "CrossAttnUpBlock2D"

DECODERS: dict[str, Config] = {
    "tiny": {
        "sample_size": 8,
        "in_channels": 16,
        "out_channels": 16,
        "block_out_channels": (8, 16),
        "down_block_types": (_DOWN, _DOWN_TEXT),
        "up_block_types": (_UP_TEXT, _UP),
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        "class_embed_type": "identity",
    },
    # outside, the convolutions of the sticker preset of `ddpm`, so that its weights are a start
    "sticker": {
        "sample_size": 16,
        "in_channels": 16,
        "out_channels": 16,
        "block_out_channels": (64, 128, 128),
        "down_block_types": (_DOWN, _DOWN_TEXT, _DOWN),
        "mid_block_type": "UNetMidBlock2D",
        "up_block_types": (_UP, _UP, _UP),
        "layers_per_block": 1,
        "cross_attention_dim": 128,
        "attention_head_dim": 4,  # diffusers reads this as the number of heads
        "norm_num_groups": 16,
        "class_embed_type": "identity",
    },
    "karlo": {
        "sample_size": 64,
        "in_channels": 3,
        "out_channels": 6,
        "block_out_channels": (320, 640, 960, 1280),
        "down_block_types": ("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * 3,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",),
        "layers_per_block": 3,
        "cross_attention_dim": 1536,
        "attention_head_dim": 64,
        "class_embed_type": "identity",
        "resnet_time_scale_shift": "scale_shift",
    },
}

PRIOR_SCHEDULE: Config = {
    "_class_name": "UnCLIPScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "prediction_type": "sample",
    "variance_type": "fixed_small_log",
    "clip_sample": True,
    "clip_sample_range": 5.0,
}

DECODER_SCHEDULE: Config = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "variance_type": "fixed_small",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": False,
    "clip_sample": True,
    "clip_sample_range": 1.0,
}


FOLDS = {"tiny": 2, "sticker": 2, "karlo": 1}
OURS = "danqing.json"


@dataclass(frozen=True)
class Decoder:
    """The UNet as a `guidance.Network` of an embedding and words: tokens [n 1+l+1 d], the picture's first.

    Where the mask leaves that out there is no picture: the learned embedding of none is heard. fold: the UNet
    sees fold x fold pixels as one of more channels.
    """

    unet: UNet2DConditionModel
    projection: TextProjection
    fold: int = 1

    def __call__(self, x: Tensor, t: Tensor, words: Conditioning) -> Tensor:
        """Pictures [n c h w], times [n] and an embedding and words for n pictures -> output [n c h w]."""
        mask = torch.ones_like(words.tokens[..., 0], dtype=torch.bool) if words.mask is None else words.mask
        picture = torch.where(mask[:, :1], words.tokens[:, 0], self.projection.nothing)
        context, added = self.projection(picture, words.tokens[:, -1], words.tokens[:, 1:-1])
        extra = self.projection.config.clip_extra_context_tokens
        output: Tensor = self.unet(
            F.pixel_unshuffle(x, self.fold),
            t,
            encoder_hidden_states=context,
            class_labels=added,
            encoder_attention_mask=F.pad(mask[:, 1:-1], (extra, 0), value=True),
            return_dict=False,
        )[0]
        return F.pixel_shuffle(output, self.fold)


@dataclass(frozen=True)
class Parts:
    """What a folder holds; the schedules as diffusers configs. See `Decoder` for `fold`.

    clip: what the weights of its CLIP hash to. asked: how the prior is.
    """

    card: Card
    prior: PriorTransformer
    prior_schedule: Config
    decoder: UNet2DConditionModel
    projection: TextProjection
    decoder_schedule: Config
    clip: str
    fold: int = 1
    asked: PriorOptions = field(default_factory=PriorOptions)


def fresh_projection(decoder: UNet2DConditionModel, width: int) -> TextProjection:
    """A projection of random weights, from embeddings of `width` numbers to what a decoder takes."""
    config = decoder.config
    return TextProjection.from_config(
        {
            "clip_embeddings_dim": width,
            "time_embed_dim": 4 * config.block_out_channels[0],
            "cross_attention_dim": config.cross_attention_dim,
        }
    )


def save_parts(parts: Parts, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the folder, whole or not at all.

    Raises:
        BadWeights: a value does not fit into `dtype`. DanqingError: the folder cannot be written.
    """
    with replacing_folder(folder) as draft:
        for name, part in (("prior", parts.prior), ("decoder", parts.decoder)):
            part.save_config(draft / name)
            config = read_json(draft / name / "config.json")
            write_module(part, config, draft / name, "diffusion_pytorch_model", dtype)
        projection = parts.projection
        write_module(
            projection, projection.to_config(), draft / "text_proj", "diffusion_pytorch_model", dtype
        )
        for name, schedule in (("prior", parts.prior_schedule), ("decoder", parts.decoder_schedule)):
            place = draft / f"{name}_scheduler"
            place.mkdir()
            write_json(schedule, place / "scheduler_config.json")
        ours = {"clip": parts.clip, "fold": parts.fold, "prior": asdict(parts.asked)}
        write_json(ours, draft / OURS)
        write_json(parts.card.model_dump(mode="json"), draft / "card.json")


def read_parts(folder: Path) -> Parts:
    """What `save_parts` wrote, in float32 on the CPU.

    Raises:
        BadWeights: in one line that names the file and what is wrong with it.
    """
    card = read_card(folder / "card.json")
    if card is None:
        raise BadWeights(f"{str(folder / 'card.json')!r} is missing: fetch the whole folder again")
    ours = read_json(folder / OURS)
    try:
        clip, fold, asked = str(ours["clip"]), int(ours["fold"]), PriorOptions(**ours["prior"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadWeights(
            f"{str(folder / OURS)!r} needs clip, fold and prior ({first_line(error)}): fetch it again"
        ) from None
    decoder = read_module(folder / "decoder", UNet2DConditionModel.from_config)
    channels = decoder.config.in_channels
    if fold < 1 or channels % fold**2 or channels // fold**2 not in (3, 4):
        raise BadWeights(
            f"{str(folder / OURS)!r}: fold {fold} does not fit {channels} channels: fetch it again"
        )
    return Parts(
        card=card,
        prior=read_module(folder / "prior", PriorTransformer.from_config),
        prior_schedule=read_json(folder / "prior_scheduler" / "scheduler_config.json"),
        decoder=decoder,
        projection=read_module(folder / "text_proj", TextProjection.from_config),
        decoder_schedule=read_json(folder / "decoder_scheduler" / "scheduler_config.json"),
        clip=clip,
        fold=fold,
        asked=asked,
    )


def check_clip(folder: Path, told: str, clip: Path | None = None) -> None:
    """The CLIP in the folder `clip`, or the shipped one, is the one that a folder's networks know.

    Raises:
        BadWeights: it is another.
    """
    found = fingerprint(shipped_part("clip") if clip is None else clip)
    if found != told:
        raise BadWeights(
            f"{str(folder)!r} paints embeddings of the CLIP {told[:12]}, this copy has {found[:12]}: use the "
            "version of danqing that it came with, or train it again"
        )
