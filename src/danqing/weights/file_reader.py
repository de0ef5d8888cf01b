"""Modules from the tensors of one file whose names are those of another program."""

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
    """Makes modules of the tensors of one file.

    prefix: what its names lack, as in a file of one part; `header` has it.
    so: the consequence if they are not those of a module, for the message.
    """

    header: Header
    dtype: torch.dtype | None
    prefix: str = ""
    so: str = ONLY

    def module(self, head: str, build: Callable[[], M], table: Table) -> M:
        """The module that the tensors whose names begin with `head` belong to, in evaluation mode.

        Raises:
            BadWeights: its config describes no network, or the first offending key in the file's own naming.
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
    """A 1x1 convolution as the matrix that the VAE's attention has today."""
    if like is not None and tensor.shape == (*like.shape, 1, 1):
        return tensor[:, :, 0, 0]
    return tensor
