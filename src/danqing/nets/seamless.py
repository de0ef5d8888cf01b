"""Circular padding of convolutions, so that pictures tile without a seam."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def seamless(*networks: nn.Module) -> Iterator[None]:
    """A context in which all convolutions of `networks` have circular padding."""
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    before = [layer.padding_mode for layer in layers]
    try:
        for layer in layers:
            layer.padding_mode = "circular"
        yield
    finally:
        for layer, mode in zip(layers, before, strict=True):
            layer.padding_mode = mode
