"""Where networks are, and in which precision they compute."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def move(device: torch.device, dtype: torch.dtype | None, *networks: object) -> None:
    """Move networks to a device and cast their weights.

    dtype: None is float32.
    networks: what is no module, such as a function that enlarges, is left alone.
    """
    dtype = dtype or torch.float32
    for network in networks:
        if isinstance(network, nn.Module):
            network.to(device)
            if any(weight.dtype != dtype for weight in network.parameters()):
                nn.Module.to(network, dtype)  # diffusers' own warns of what it does not skip


def device_of(network: nn.Module) -> torch.device:
    """Where the network's weights are."""
    return next(network.parameters()).device


def as_input(network: nn.Module, tensor: Tensor) -> Tensor:
    """`tensor` as the network takes it: on its device and, if it is floating, in the dtype of its weights.

    A network without weights takes it as it is.
    """
    weight = next(network.parameters(), None)
    if weight is None:
        return tensor
    return tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else tensor.dtype)


def to_float32(output: Tensor) -> Tensor:
    """A network's output in float32, if the network computes in less."""
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output


def is_finite(tensor: Tensor) -> bool:
    """Whether a floating tensor holds neither NaN nor infinite values."""
    wide = tensor.float() if tensor.element_size() == 1 else tensor  # eight bits know no such test
    return bool(wide.isfinite().all())


def first_not_finite(networks: Mapping[str, nn.Module]) -> str | None:
    """The first weight that holds NaN or infinite values, as "unet.conv_in.bias"; None if there is none."""
    for network, module in networks.items():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and not is_finite(tensor):
                return f"{network}.{name}"
    return None
