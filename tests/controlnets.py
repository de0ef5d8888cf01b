"""Tiny ControlNets of random weights, and the original naming of their tensors."""

from __future__ import annotations

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from danqing.weights.controlnet import _original_table
from danqing.weights.ldm_keys import rename


def controlnet_for(unet: UNet2DConditionModel, seed: int = 0) -> ControlNetModel:
    """One that steers: what leads out of a ControlNet that has learned nothing is 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16, 32))
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def original(network: ControlNetModel, head: str = "control_model.") -> dict[str, Tensor]:
    """Its tensors as lllyasviel's files name them."""
    table = _original_table(network.config)
    return {head + rename(table, name): tensor.contiguous() for name, tensor in network.state_dict().items()}
