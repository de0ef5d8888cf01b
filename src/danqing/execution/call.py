"""Splits a call of a network into its tensors and the rest, for programs whose arguments are tensors only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """The arguments of one call.

    tensors: all tensors, in order.
    form: positional and named arguments, with a placeholder for each tensor.
    """

    tensors: tuple[Tensor, ...]
    form: Any

    @classmethod
    def of(cls, args: Sequence[Any], named: Mapping[str, Any]) -> Call:
        """The call with these arguments."""
        return cls(*take_apart((tuple(args), dict(named))))

    @property
    def signature(self) -> tuple[object, ...]:
        """A key that is equal for two calls if one program can run both; sizes of tensors do not count."""
        return tuple((str(tensor.dtype), tensor.ndim) for tensor in self.tensors), repr(self.form)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each tensor."""
        return tuple(tuple(tensor.shape) for tensor in self.tensors)

    def arguments(self, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and the named arguments of this call, with other tensors."""
        args, named = put_together(tensors, self.form)
        return args, named


def take_apart(value: Any) -> tuple[tuple[Tensor, ...], Any]:
    """The tensors in nested tuples, lists and dicts, and the same nest with a placeholder for each tensor."""
    tensors: list[Tensor] = []

    def place(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        tensors.append(leaf)
        return _PLACE

    form = _with_leaves(value, place)
    return tuple(tensors), form


def put_together(tensors: Sequence[Tensor], form: Any) -> Any:
    """The inverse of `take_apart`."""
    rest = iter(tensors)
    return _with_leaves(form, lambda leaf: next(rest) if leaf is _PLACE else leaf)


def _with_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """A nested value with `change` applied to each leaf: each item that is no plain tuple, list or dict."""
    if type(value) is dict:
        return {name: _with_leaves(each, change) for name, each in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_with_leaves(each, change) for each in value)
    return change(value)


class _Place:
    def __repr__(self) -> str:
        return "<tensor>"


_PLACE = _Place()


class TensorModule(nn.Module):
    """A network as a function from the tensors of a call to the tensors of its output."""

    def __init__(self, network: nn.Module, call: Call) -> None:
        super().__init__()
        self.network, self._call = network, call

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors of the output, in order."""
        args, named = self._call.arguments(tensors)
        return take_apart(self.network.forward(*args, **named))[0]


def plain_call(network: nn.Module, args: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """The output of the network by PyTorch itself, without any backend; hooks run."""
    return network._call_impl(*args, **named)  # type: ignore[no-untyped-call]


def relative_difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The root mean square of `one - other` divided by that of `other`; the largest over all outputs.

    Infinite where shapes differ, or where only one of the two is finite.
    """
    if [tensor.shape for tensor in one] != [tensor.shape for tensor in other]:
        return float("inf")
    return max(map(_relative_difference, one, other), default=0.0)


def _relative_difference(one: Tensor, other: Tensor) -> float:
    difference, size = (one.double() - other.double()).square().mean(), other.double().square().mean()
    share = float((difference / size.clamp_min(torch.finfo(torch.float32).tiny)).sqrt())
    return share if share == share else float("inf")  # NaN counts as a difference
