"""DDPM: a UNet denoises pixels step by step, unconditionally or conditioned on class names.

Papers: Ho et al., Denoising Diffusion Probabilistic Models, arXiv 2006.11239; Nichol and Dhariwal, Improved
DDPM, arXiv 2102.09672 (cosine schedule, learned variance, fewer steps).
Differs: class names are a label (see `conditioning.names`), whose embedding is added to the time embedding;
training sometimes drops the label, so that classifier-free guidance works. The sticker preset predicts v and
works on patches, 2 x 2 pixels to one of 16 channels, so that a larger network trains at the same speed.
Licences: code Apache-2.0; weights have the licence of those who trained them (google/ddpm-*: Apache-2.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import UNet2DModel
from torch import Tensor

from danqing.conditioning.names import NO_NAMES, Names, label_of
from danqing.core.errors import BadWeights
from danqing.core.painter import Conditioning
from danqing.core.registry import family
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.thresholding import static_threshold
from danqing.diffusion.vae import IdentityVAE
from danqing.diffusion.variance import Variance
from danqing.families.ddpm.folder import DDPMComponents, build_unet, derived_card, pixel_channels, read_folder
from danqing.families.ddpm.folder import save_folder as save_folder
from danqing.nets.placement import as_input, to_float32
from danqing.weights.pretrained import Config

_DOWN, _DOWN_ATTENTION, _UP, _UP_ATTENTION = "DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"

IMPROVED: Config = {
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "variance_type": "learned_range",
    "timestep_spacing": "trailing",
    "clip_sample": True,
}
ORIGINAL: Config = {
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "variance_type": "fixed_large",
    "clip_sample": True,
}


@dataclass(frozen=True)
class Preset:
    """A network for pictures of `channels`, 4 with alpha, in square patches of side `patch_size`."""

    side: int
    channels: int
    patch_size: int
    scheduler: Config
    network: Config


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        side=16,
        channels=4,
        patch_size=2,
        scheduler=IMPROVED,
        network={
            "block_out_channels": (16, 32),
            "down_block_types": (_DOWN, _DOWN_ATTENTION),
            "up_block_types": (_UP_ATTENTION, _UP),
            "layers_per_block": 1,
            "norm_num_groups": 4,
        },
    ),
    # 83 training pictures a second on one AVX-512 core in bf16; the best one of 3.9 M without patches: 55
    "sticker": Preset(
        side=32,
        channels=4,
        patch_size=2,
        scheduler=IMPROVED,
        network={
            "block_out_channels": (64, 128, 160),
            "down_block_types": (_DOWN, _DOWN_ATTENTION, _DOWN),
            "up_block_types": (_UP, _UP_ATTENTION, _UP),
            "layers_per_block": 1,
            "norm_num_groups": 16,
            "attention_head_dim": 32,
        },
    ),
    # the CIFAR-10 network of 2006.11239 appendix B, as in google/ddpm-cifar10-32
    "cifar10": Preset(
        side=32,
        channels=3,
        patch_size=1,
        scheduler=ORIGINAL,
        network={
            "block_out_channels": (128, 256, 256, 256),
            "down_block_types": (_DOWN, _DOWN_ATTENTION, _DOWN, _DOWN),
            "up_block_types": (_UP, _UP, _UP_ATTENTION, _UP),
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "norm_eps": 1e-6,
            "attention_head_dim": None,
            "downsample_padding": 0,
            "flip_sin_to_cos": False,
            "freq_shift": 1,
            "dropout": 0.1,
        },
    ),
}


@dataclass(frozen=True)
class Denoiser:
    """A UNet as a `guidance.Network` on patches, conditioned on the first `labels` numbers of a label."""

    unet: UNet2DModel
    labels: int
    patch_size: int

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Output [n c h w], or [n 2c h w] with a learned variance, for x [n c h w] at the times t [n]."""
        label = label_of(cond, self.labels) if self.labels else None
        label = None if label is None else as_input(self.unet, label)
        patches = as_input(self.unet, F.pixel_unshuffle(x, self.patch_size))
        output = self.unet(patches, t, class_labels=label, return_dict=False)[0]
        return F.pixel_shuffle(to_float32(output), self.patch_size)


def painter_of(components: DDPMComponents) -> DiffusionPainter:
    """Build the painter from its components.

    Raises:
        BadWeights: the scheduler config does not describe a known schedule, prediction, variance or limit.
    """
    config = components.scheduler
    if config.get("thresholding") or config.get("clip_sample_range", 1.0) != 1.0:
        raise BadWeights("scheduler: thresholding or a clip_sample_range other than 1 is not known: unset it")
    return DiffusionPainter(
        card=components.card,
        text=components.names,
        network=Denoiser(components.unet.eval(), len(components.names), components.patch_size),
        prediction=Prediction(config.get("prediction_type", "epsilon")),
        schedule=Schedule.from_config(config),
        vae=IdentityVAE(pixel_channels(components.unet, components.patch_size)),
        modules={"unet": components.unet},
        threshold=static_threshold if config.get("clip_sample", True) else None,
        variance=Variance(config.get("variance_type", "fixed_small")),
    )


@family("ddpm")
def open_weights(folder: Path) -> DiffusionPainter:
    """Open a painter from a folder of diffusers' DDPMPipeline, or of our own.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    return painter_of(read_folder(folder))


def fresh_components(preset: str, names: Names = NO_NAMES, seed: int = 0) -> DDPMComponents:
    """A preset with random initial weights, for training and tests; the seed determines them."""
    chosen = PRESETS[preset]
    channels = chosen.channels * chosen.patch_size**2
    learned = chosen.scheduler["variance_type"] == Variance.LEARNED
    config = {
        **chosen.network,
        "sample_size": chosen.side // chosen.patch_size,
        "in_channels": channels,
        "out_channels": channels * (2 if learned else 1),
        "num_class_embeds": len(names) + 1 if names.entries else None,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = build_unet(config).eval()
    card = derived_card(preset, unet, names, chosen.patch_size)
    return DDPMComponents(unet, chosen.scheduler, card, names, chosen.patch_size)


def random_painter(preset: str = "tiny", names: Names = NO_NAMES, seed: int = 0) -> DiffusionPainter:
    """A painter of `fresh_components`."""
    return painter_of(fresh_components(preset, names, seed))
