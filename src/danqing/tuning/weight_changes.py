"""Changes of a layer's weight other than LoRA's factors: LoHa, LoKr, DoRA, (IA)3, full differences.

Each is computed from its small tensors whenever its layer is called, so that it needs no memory of its own
and the weight is never modified. Formulae: LyCORIS, arXiv 2309.14859 (LoHa section 3.2, LoKr section 3.3);
DoRA, arXiv 2402.09353 eq. 5; (IA)3, arXiv 2205.05638.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Layer = nn.Linear | nn.Conv2d
NamedTensors = Mapping[str, Tensor]


def _lora(tensors: NamedTensors, _weight: Tensor) -> Tensor:
    """Up times down, with a core tensor between if the file has one (a Tucker decomposition)."""
    up, down = tensors["up"].flatten(1), tensors["down"]
    if "mid" in tensors:
        return torch.einsum("mn...,im,nj->ij...", tensors["mid"], up, down.flatten(1))
    return (up @ down.flatten(1)).view(len(up), *down.shape[1:])


def _loha(tensors: NamedTensors, _weight: Tensor) -> Tensor:
    """The elementwise (Hadamard) product of two low-rank weights."""
    halves = (_half(tensors, f"hada_w{k}_a", f"hada_w{k}_b", f"hada_t{k}") for k in "12")
    first, second = halves
    return first * second


def _lokr(tensors: NamedTensors, _weight: Tensor) -> Tensor:
    """The Kronecker product of two weights, each full or of low rank."""
    first, second = (
        tensors[f"lokr_w{k}"]
        if f"lokr_w{k}" in tensors
        else _half(tensors, f"lokr_w{k}_a", f"lokr_w{k}_b", f"lokr_t{k}")
        for k in "12"
    )
    return torch.kron(first[(..., *(None,) * (second.ndim - first.ndim))], second.contiguous())


def _half(tensors: NamedTensors, a: str, b: str, core: str) -> Tensor:
    if core in tensors:
        return torch.einsum("ij...,jr,ip->pr...", tensors[core], tensors[b], tensors[a])
    return (tensors[a] @ tensors[b].flatten(1)).view(len(tensors[a]), *tensors[b].shape[1:])


def _whole(tensors: NamedTensors, _weight: Tensor) -> Tensor:
    return tensors["difference"]


def _scale(tensors: NamedTensors, weight: Tensor) -> Tensor:
    """The weight scaled by one number for each of its inputs or outputs."""
    ones = (1,) * (weight.ndim - 2)
    on_input = bool(tensors["on_input"].any())
    return weight * tensors["scale"].view(*((1, -1) if on_input else (-1, 1)), *ones)


KINDS: dict[frozenset[str], tuple[str, Callable[[NamedTensors, Tensor], Tensor]]] = {
    frozenset({"down", "up"}): ("LoRA", _lora),
    frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}): ("LoHa", _loha),
    frozenset({"lokr_w1", "lokr_w2"}): ("LoKr", _lokr),
    frozenset({"lokr_w1_a", "lokr_w1_b", "lokr_w2"}): ("LoKr", _lokr),
    frozenset({"lokr_w1", "lokr_w2_a", "lokr_w2_b"}): ("LoKr", _lokr),
    frozenset({"lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"}): ("LoKr", _lokr),
    frozenset({"difference"}): ("difference", _whole),
    frozenset({"scale", "on_input"}): ("(IA)3", _scale),
}
"""Maps the set of tensors that form a kind of change to its name and the function that computes it."""

# tensors whose first side is the rank; the first one present counts
_RANKS = ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")


@dataclass(frozen=True, eq=False)
class WeightChange:
    """The change of one layer.

    kind: LoRA, LoHa, LoKr, difference or (IA)3.
    tensors: by their part in the change.
    rebuild: a function from the tensors and the layer's weight to the change of the weight, before `scale`.
    scale: alpha / rank.
    magnitude: the norm that each row (or column) of the changed weight gets (DoRA); None for no change of
        norms.
    """

    kind: str
    tensors: NamedTensors
    rebuild: Callable[[NamedTensors, Tensor], Tensor]
    scale: float
    magnitude: Tensor | None = None

    @classmethod
    def of(
        cls, tensors: NamedTensors, alpha: float | None, stated_rank: int | None = None
    ) -> WeightChange | None:
        """The change that these tensors form; None if they form none.

        alpha: None means the rank.
        stated_rank: the rank in peft's settings, used if no tensor has it. Without both, two full factors of
            a product are not scaled.
        """
        core = frozenset(tensors) - {"mid", "hada_t1", "hada_t2", "lokr_t2", "magnitude", "bias"}
        if core not in KINDS:
            return None
        kind, rebuild = KINDS[core]
        rank = next((tensors[name].shape[0] for name in _RANKS if name in tensors), stated_rank)
        scale = 1.0 if alpha is None or rank is None else alpha / rank
        inner = {name: part for name, part in tensors.items() if name != "magnitude"}
        return cls(kind, inner, rebuild, scale, tensors.get("magnitude"))

    def delta(self, weight: Tensor) -> Tensor:
        """The difference to add to a layer's weight, in the weight's shape.

        Raises:
            RuntimeError: the weight has another shape.
        """
        tensors = {name: part.to(weight) for name, part in self.tensors.items()}
        delta = self.rebuild(tensors, weight).reshape(weight.shape) * self.scale
        return delta if self.magnitude is None else _at_length(weight + delta, self.magnitude) - weight

    def __call__(self, layer: Layer, x: Tensor) -> Tensor:
        """The term to add to the layer's output for its input x."""
        bias = self.tensors["bias"].to(x) if "bias" in self.tensors else None
        delta = self.delta(layer.weight.to(x.dtype))
        return (
            F.linear(x, delta, bias) if isinstance(layer, nn.Linear) else layer._conv_forward(x, delta, bias)
        )

    def reshape_for(self, _layer: Layer) -> WeightChange:
        """The change itself: `delta` adapts to the layer's shape."""
        return self

    def fits(self, layer: Layer) -> bool:
        """Whether the change fits the shape of the layer's weight."""
        try:
            shape = self.rebuild(self.tensors, layer.weight.float()).shape
        except RuntimeError:
            return False
        same = shape[0] == layer.weight.shape[0] and shape.numel() == layer.weight.numel()
        return same and (self.magnitude is None or self.magnitude.numel() in layer.weight.shape[:2])

    def changes(self) -> tuple[int, ...]:
        """The shape of the weight that it changes; for (IA)3 that of the scales."""
        if self.kind == "(IA)3":
            return tuple(self.tensors["scale"].shape)
        return tuple(self.rebuild(self.tensors, torch.empty(0)).shape)

    def times(self, weight: float) -> WeightChange:
        """The change multiplied by a weight; not possible for DoRA, which is not linear in it."""
        return replace(self, scale=self.scale * weight)


def _at_length(weight: Tensor, magnitude: Tensor) -> Tensor:
    """A weight whose rows have the norms `magnitude`; or whose columns do, if `magnitude` is a row."""
    kept = 1 if magnitude.ndim > 1 and magnitude.shape[0] == 1 < magnitude.numel() else 0
    shape = [1] * weight.ndim
    shape[kept] = -1
    axes = tuple(axis for axis in range(weight.ndim) if axis != kept)
    length = torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
    scale: Tensor = magnitude.to(weight).reshape(shape) / length.clamp(min=1e-12)
    return weight * scale
