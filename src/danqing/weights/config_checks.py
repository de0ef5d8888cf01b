"""Limits for the values in configs: a damaged config gives a message, not a crash or an out-of-memory error.

Only fields that set sizes or numbers are checked; the library that builds the network checks the others. The
limits are far beyond every published model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from danqing.core.errors import BadWeights
from danqing.weights.tensor_files import first_line

Count = Annotated[int, Field(gt=0, le=2**16)]
Few = Annotated[int, Field(gt=0, le=64)]
Layers = Annotated[int, Field(gt=0, le=256)]
Words = Annotated[int, Field(gt=0, le=2**22)]
Share = Annotated[float, Field(gt=0, lt=1)]
Scale = Annotated[float, Field(gt=0, le=1e4)]
Levels = Annotated[list[Count], Field(min_length=1, max_length=16)]
Names = Annotated[list[str | None], Field(min_length=1, max_length=16)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    @classmethod
    def check(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Check a config, and return it unchanged.

        Raises:
            ValidationError: a value is wrong; the message names field and value.
        """
        cls.model_validate(config)
        return config

    @classmethod
    def read(cls, place: Path, config: dict[str, Any]) -> Self:
        """Read the fields from the config in `place`. Raises BadWeights: it names the wrong value."""
        try:
            return cls.model_validate(config)
        except ValidationError as error:
            raise BadWeights(f"{str(place)!r}: {first_line(error)}: fetch it again") from None


class UNetFields(_Fields):
    """Checked fields of a `UNet2DConditionModel`."""

    sample_size: Count | list[Count] | None = None
    in_channels: Few = 4
    out_channels: Few = 4
    down_block_types: Names | None = None
    up_block_types: Names | None = None
    block_out_channels: Levels = Field(default=[320])
    layers_per_block: Few | Annotated[list[Few], Field(max_length=16)] = 2
    cross_attention_dim: Count | list[Count] = 1280
    attention_head_dim: Count | list[Count] = 8
    norm_num_groups: Count | None = 32
    transformer_layers_per_block: Few | list[Any] = 1
    time_cond_proj_dim: Count | None = None
    addition_time_embed_dim: Count | None = None
    projection_class_embeddings_input_dim: Count | None = None


class ControlNetFields(_Fields):
    """Checked fields of a `ControlNetModel`."""

    in_channels: Few = 4
    conditioning_channels: Few = 3
    down_block_types: Names | None = None
    block_out_channels: Levels = Field(default=[320])
    layers_per_block: Few = 2
    cross_attention_dim: Count = 1280
    attention_head_dim: Count | list[Count] = 8
    norm_num_groups: Count | None = 32
    transformer_layers_per_block: Few | list[Few] = 1
    conditioning_embedding_out_channels: Levels = Field(default=[16])
    addition_time_embed_dim: Count | None = None
    projection_class_embeddings_input_dim: Count | None = None


class VAEFields(_Fields):
    """Checked fields of an `AutoencoderKL`."""

    in_channels: Few = 3
    out_channels: Few = 3
    latent_channels: Few = 4
    down_block_types: Names | None = None
    up_block_types: Names | None = None
    block_out_channels: Levels = Field(default=[64])
    layers_per_block: Few = 1
    norm_num_groups: Count = 32
    sample_size: Count = 32
    scaling_factor: Scale = 0.18215


class TextFields(_Fields):
    """Checked fields of a `CLIPTextModel`, with or without a projection."""

    vocab_size: Words = 49408
    hidden_size: Count = 512
    intermediate_size: Count = 2048
    num_hidden_layers: Layers = 12
    num_attention_heads: Count = 8
    max_position_embeddings: Count = 77
    projection_dim: Count = 512
    hidden_act: str = "quick_gelu"
    layer_norm_eps: Share = 1e-5


class ImageEncoderFields(_Fields):
    """Checked fields of a `CLIPVisionModelWithProjection`."""

    hidden_size: Count = 768
    intermediate_size: Count = 3072
    num_hidden_layers: Layers = 12
    num_attention_heads: Count = 12
    image_size: Count = 224
    patch_size: Count = 32
    projection_dim: Count = 512
    hidden_act: str = "quick_gelu"
    layer_norm_eps: Share = 1e-5


class AdapterFields(_Fields):
    """Checked fields of a `T2IAdapter`."""

    in_channels: Few = 3
    channels: Levels = Field(default=[320, 640, 1280, 1280])
    num_res_blocks: Few = 2
    downscale_factor: Few = 8
    adapter_type: str = "full_adapter"


class SchedulerFields(_Fields):
    """Checked fields of a diffusers scheduler whose noise follows from betas."""

    beta_schedule: str
    num_train_timesteps: Annotated[int, Field(gt=0, le=100_000)] = 1000
    beta_start: Share = 1e-4
    beta_end: Share = 0.02
    trained_betas: Annotated[list[Share], Field(min_length=1, max_length=100_000)] | None = None
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: Annotated[int, Field(ge=0, le=1000)] = 0
    rescale_betas_zero_snr: bool = False
    set_alpha_to_one: bool = True


class TokenizerFields(_Fields):
    """Checked fields of tokenizer_config.json."""

    model_max_length: Annotated[int | float, Field(gt=0)] = 77
