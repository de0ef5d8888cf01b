"""Adapters: what was learned, stored apart from the model; how to attach it and how a prompt names it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from danqing.diffusion.painter import DiffusionPainter
from danqing.tuning.lora import Change, Factors, addition_hook, fit_factors, layers_of
from danqing.tuning.textual_inversion import attach_embeddings
from danqing.tuning.weight_changes import WeightChange


@dataclass(frozen=True, eq=False)
class Adapter:
    """Changes to layers, learned embeddings, or both.

    name: the key in a brief's `adapters`, and `<name>` in its prompt.
    factors: by network and layer, `unet.mid_block.attentions.0...to_q`, or as in `lora.flat_name`.
    rebuilt: changes of other kinds by the same keys, from files of other programs.
    words: prompt text of a learned word -> its embeddings [v d].
    words_2: the same for the second text encoder of Stable Diffusion XL.
    trigger: the trigger words, which `with_trigger_words` puts in the place of `<name>`; empty for none.
    kind: the class of the subject, such as "cat".
    base: the card's name of the base model; empty if the file does not contain it.
    shapes: the `fingerprint` of the base model; empty if the file does not contain it.
    """

    name: str
    factors: Mapping[str, Factors] = field(default_factory=dict)
    rebuilt: Mapping[str, WeightChange] = field(default_factory=dict)
    words: Mapping[str, Tensor] = field(default_factory=dict)
    words_2: Mapping[str, Tensor] = field(default_factory=dict)
    trigger: str = ""
    kind: str = ""
    base: str = ""
    shapes: str = ""

    @property
    def changes(self) -> dict[str, Change]:
        """The changes of all layers, of every kind."""
        return {**self.factors, **self.rebuilt}

    def tensors(self) -> list[Tensor]:
        """All learned tensors, in a fixed order."""
        pairs = [tensor for change in self.factors.values() for tensor in (change.down, change.up)]
        return [*pairs, *self.words.values()]

    def cpu_copy(self) -> Adapter:
        """A copy on the CPU that further training does not change."""
        factors = {
            name: Factors(_settle(change.down), _settle(change.up), change.alpha)
            for name, change in self.factors.items()
        }
        return replace(self, factors=factors, words={word: _settle(v) for word, v in self.words.items()})


def _settle(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()


@contextmanager
def attach(painter: DiffusionPainter, adapters: Mapping[Adapter, float]) -> Iterator[DiffusionPainter]:
    """A context in which `adapters` are attached to the painter, each with its weight.

    Weights add up and may be negative; 0 has no effect at all. After the block, even after an exception, the
    painter is bit-identical to before. The painter itself is changed: no other thread may paint with it in
    the block.

    Raises:
        BadWeights: an adapter is for another model; nothing was attached then.
    """
    changes = [
        (layer, factors, weight)
        for adapter, weight in adapters.items()
        for _, layer, factors in fit_factors(painter.modules, adapter.changes, adapter.name)
        if weight != 0
    ]
    present = [adapter for adapter, weight in adapters.items() if weight != 0]
    words, words_2 = (
        {word: vectors for adapter in present for word, vectors in getattr(adapter, name).items()}
        for name in ("words", "words_2")
    )
    with ExitStack() as stack:
        stack.enter_context(attach_embeddings(painter, words, words_2))
        for layer, factors, weight in changes:
            stack.callback(layer.register_forward_hook(addition_hook(factors, weight)).remove)
        yield painter


@dataclass(frozen=True)
class Coverage:
    """How many layers an adapter changes.

    changed: number of layers in the adapter that the painter has.
    layers: number of all layers in the networks that the adapter changes.
    stated: number of layers in the adapter.
    """

    changed: int
    layers: int
    stated: int


def coverage(painter: DiffusionPainter, adapter: Adapter) -> Coverage:
    """How many layers of the painter the adapter changes.

    Raises:
        BadWeights: it is for another model; the message names the first layer that does not fit.
    """
    changed = [name for name, *_ in fit_factors(painter.modules, adapter.changes, adapter.name)]
    touched = {name.partition(".")[0] for name in changed}
    networks = {name: module for name, module in painter.modules.items() if name in touched}
    return Coverage(len(changed), len(layers_of(networks)), len(adapter.changes))


def named_as(painter: DiffusionPainter, adapter: Adapter) -> Adapter:
    """The adapter with the painter's own layer names and shapes, which files in our dialect need.

    Raises:
        BadWeights: it is for another model.
    """
    named = {name: change for name, _, change in fit_factors(painter.modules, adapter.factors, adapter.name)}
    return replace(adapter, factors=named)


def with_trigger_words(prompt: str, adapters: Iterable[Adapter]) -> str:
    """The prompt with each `<name>` replaced by the adapter's trigger words.

    A learned word is replaced without the brackets too, because people write EasyNegative like that. Spaces
    are added between the trigger words and letters beside them: "一只<my-cat>" becomes "一只 wth cat".
    """
    for adapter in adapters:
        name = re.escape(adapter.name)
        bare = rf"|(?<![\w<]){name}(?![\w>])" if adapter.words and not adapter.changes else ""
        pattern = re.compile(f"<{name}>{bare}", re.IGNORECASE)
        prompt = pattern.sub(partial(_set_apart, adapter.trigger), prompt)
    return prompt


def _set_apart(trigger: str, hit: re.Match[str]) -> str:
    before, after = hit.string[: hit.start()], hit.string[hit.end() :]
    left = " " if re.search(r"[\w>]$", before) else ""
    return left + trigger + (" " if re.match(r"\w", after) else "")


def fingerprint(networks: Mapping[str, nn.Module], *, values: bool = False) -> str:
    """Sixteen hex digits that depend on the shapes of all networks and, with `values`, on every weight."""
    digest = hashlib.sha256()
    for network, module in sorted(networks.items()):
        for name, tensor in module.state_dict().items():
            digest.update(f"{network}.{name} {tuple(tensor.shape)}\n".encode())
            if values:
                digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
