"""Builds modules from one file whose tensors have the names of another program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from danqing.weights.ldm_keys import Table, rename, split_attention
from danqing.weights.pretrained import build_empty
from danqing.weights.tensor_files import Header, check_keys, read_tensors

M = TypeVar("M", bound=nn.Module)

ONLY = "only Stable Diffusion 1, 2 and XL can be opened"


@dataclass(frozen=True)
class FileReader:
    """Builds modules from the tensors of one file.

    header: its header.
    dtype: of the weights; None keeps the stored one.
    prefix: a prefix that the file's names lack, if it holds a single part; the names in `header` have it.
    so: the consequence of a mismatch, for the message.
    """

    header: Header
    dtype: torch.dtype | None
    prefix: str = ""
    so: str = ONLY

    def module(self, head: str, build: Callable[[], M], table: Table) -> M:
        """Build a module from the tensors whose names begin with `head`, in evaluation mode.

        Raises:
            BadWeights: the config is invalid, or tensors do not match; the message has the first one's name
                in the file.
        """
        path = self.header.path
        module = build_empty(f"{str(path)!r}: {head}*", build)
        names = [name for name in self.header.shapes if name.startswith(head)]
        tensors = read_tensors(path, [name.removeprefix(self.prefix) for name in names], self.dtype)
        stored = split_attention({f"{self.prefix}{name}": tensor for name, tensor in tensors.items()})
        state = module.state_dict()
        theirs = {name: head + rename(table, name.removeprefix("text_model.")) for name in state}
        shapes = {theirs[name]: tensor for name, tensor in state.items()}
        fitting = {key: _as_linear(tensor, shapes.get(key)) for key, tensor in stored.items()}
        check_keys(path, fitting, shapes, self.so)
        module.load_state_dict({name: fitting[key] for name, key in theirs.items()}, assign=True)
        return module.eval()


def _as_linear(tensor: Tensor, like: Tensor | None) -> Tensor:
    """A 1x1 convolution's weight as a matrix, which the VAE's attention uses today, if `like` is one."""
    if like is not None and tensor.shape == (*like.shape, 1, 1):
        return tensor[:, :, 0, 0]
    return tensor
