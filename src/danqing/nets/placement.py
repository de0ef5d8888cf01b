"""Moves networks and their inputs between devices and precisions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def move(device: torch.device, dtype: torch.dtype | None, *networks: object) -> None:
    """Move networks to a device and cast their weights.

    dtype: None is float32.
    networks: the networks; items that are no modules, such as an upscaling function, are ignored.
    """
    dtype = dtype or torch.float32
    for network in networks:
        if isinstance(network, nn.Module):
            network.to(device)
            if any(weight.dtype != dtype for weight in network.parameters()):
                nn.Module.to(network, dtype)  # diffusers' `to` would warn


def device_of(network: nn.Module) -> torch.device:
    """The device of the network's weights."""
    return next(network.parameters()).device


def as_input(network: nn.Module, tensor: Tensor) -> Tensor:
    """`tensor` on the device of the network and, if it is floating, in the dtype of its weights.

    For a network without weights it is returned unchanged.
    """
    weight = next(network.parameters(), None)
    if weight is None:
        return tensor
    return tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else tensor.dtype)


def to_float32(output: Tensor) -> Tensor:
    """The output of a network in float32, if it has a lower precision."""
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output


def is_finite(tensor: Tensor) -> bool:
    """Whether a floating tensor has neither NaN nor infinite values."""
    wide = tensor.float() if tensor.element_size() == 1 else tensor  # isfinite does not support float8
    return bool(wide.isfinite().all())


def first_not_finite(networks: Mapping[str, nn.Module]) -> str | None:
    """The name of the first weight with NaN or infinite values, such as "unet.conv_in.bias", or None."""
    for network, module in networks.items():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and not is_finite(tensor):
                return f"{network}.{name}"
    return None
