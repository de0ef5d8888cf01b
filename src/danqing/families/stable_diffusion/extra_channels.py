"""Small presets of Stable Diffusion 2 for tests, and the further input channels of its variants.

The presets predict v at zero terminal SNR. The depth variant has a fifth input channel, the depth map; the x4
upscaler has the noisy small picture as further channels and its noise level as a class label (model cards of
stabilityai/stable-diffusion-2-depth and -x4-upscaler). The text encoder skips its last layer before the final
norm; folders of diffusers have one layer less instead.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import UNet2DConditionModel
from torch import Tensor

from danqing.core.errors import BadBrief
from danqing.core.painter import InputImages
from danqing.diffusion.vae import VAE
from danqing.weights.pretrained import Config

_UNET: Config = {
    "sample_size": 4,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": (1, 2),  # diffusers reads this as the number of heads
    "use_linear_projection": True,
    "norm_num_groups": 4,
}
UNETS: dict[str, Config] = {
    "sd2-tiny": _UNET,
    "sd2-depth-tiny": {**_UNET, "in_channels": 5},
    "sd2-x4-tiny": {**_UNET, "in_channels": 7, "sample_size": 8, "num_class_embeds": 1000},
}

_VAE: Config = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (4, 8, 8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "scaling_factor": 0.18215,
    "sample_size": 32,
}
X4_SCALE = 0.08333  # scaling factor of the upscaler's latents; also the default for folders without it
VAES: dict[str, Config] = {
    "sd2-tiny": _VAE,
    "sd2-depth-tiny": _VAE,
    "sd2-x4-tiny": {
        **_VAE,
        "block_out_channels": (4, 8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "scaling_factor": X4_SCALE,
    },
}

SCHEDULE: Config = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",  # of zero terminal SNR, as its fine-tunes use it (arXiv 2305.08891)
    "rescale_betas_zero_snr": True,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def depth_map(images: InputImages, vae: VAE) -> Tensor:
    """The input channel of the depth variant: [1 1 h w] from -1 (far) to 1 (near), at the size of latents.

    A constant depth map has no information; it becomes 0, with a warning.

    Raises:
        BadBrief: the request has no depth map.
    """
    if images.depth is None:
        raise BadBrief(
            'this model paints by a depth map: give one, as in danqing redraw a.png "words" --depth depth.png'
        )
    sides = [side // vae.factor for side in images.depth.shape[-2:]]
    small = F.interpolate(images.depth, sides, mode="bicubic", align_corners=False)
    low, high = small.amin(dim=(1, 2, 3), keepdim=True), small.amax(dim=(1, 2, 3), keepdim=True)
    spread = high - low
    flat = spread <= 1e-6 * high.abs().clamp(min=1)  # bicubic resizing has rounding errors
    if flat.any():
        warnings.warn(
            "the depth map is the same everywhere: it says nothing of what is near",
            RuntimeWarning,
            stacklevel=2,
        )
    return torch.where(flat, torch.zeros_like(small), 2 * (small - low) / spread.clamp(min=1e-30) - 1)


@torch.no_grad()
def with_inputs(unet: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """A copy with `channels` input channels; the weights of the new ones are 0, so they have no effect yet.

    The training of the depth and inpainting variants started in this way from the plain model.
    """
    more = UNet2DConditionModel.from_config({**unet.config, "in_channels": channels})
    weights = dict(unet.state_dict())
    old = weights["conv_in.weight"]
    wide = torch.zeros(old.shape[0], channels, *old.shape[2:])
    wide[:, : old.shape[1]] = old
    more.load_state_dict({**weights, "conv_in.weight": wide})
    return more.eval()
