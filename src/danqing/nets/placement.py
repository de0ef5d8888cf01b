"""Where networks are, and in which precision they compute."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def move(device: torch.device, dtype: torch.dtype | None, *networks: object) -> None:
    """Move networks to a device and cast their weights.

    dtype: None is float32.
    networks: what is no module, such as a function that enlarges, is left alone.
    """
    for network in networks:
        if isinstance(network, nn.Module):
            network.to(device)
            if next(network.parameters()).dtype != (dtype or torch.float32):
                nn.Module.to(network, dtype or torch.float32)  # diffusers' own warns of what it does not skip


def device_of(network: nn.Module) -> torch.device:
    """Where the network's weights are."""
    return next(network.parameters()).device


def as_input(network: nn.Module, tensor: Tensor) -> Tensor:
    """`tensor` as the network takes it: on its device and, if it is floating, in the dtype of its weights."""
    weight = next(network.parameters())
    return tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else tensor.dtype)
