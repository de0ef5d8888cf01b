"""Samples the tokens of pictures one after the other, conditioned on a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from danqing.core.painter import Conditioning
from danqing.diffusion.guidance import classifier_free, compose
from danqing.nets.placement import to_float32
from danqing.nets.token_transformer import Cache, TokenTransformer


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, and how many candidates are painted for each picture.

    temperature: divides the logits; below 1, likely tokens become more likely.
    top_k: draw only from this many most likely tokens; 0 means all.
    top_p: draw only from the most likely tokens with this total probability, in (0, 1].
    candidates: pictures for each seed, of which the scorer keeps one.

    Raises:
        ValueError: a number is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    candidates: int = 8

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and self.top_k >= 0 and 0 < self.top_p <= 1 and self.candidates >= 1):
            raise ValueError(
                f"{self}: temperature must be above 0, top_k 0 or more, top_p in (0, 1], candidates 1 or more"
            )


DEFAULT = Sampling()


def gumbel_of(normal: Tensor) -> Tensor:
    """Transform standard normal noise to standard Gumbel noise, float64, by its cumulative probability.

    So `Seeds` draws the noise of tokens too, and a variation interpolates between the pictures of two seeds.
    """
    return -torch.log(-torch.special.log_ndtr(normal.double()))


def draw_tokens(logits: Tensor, noise: Tensor, sampling: Sampling) -> Tensor:
    """Draw tokens [...] from logits [... vocab] by the Gumbel-max trick; exact for Gumbel noise."""
    return (keep_likeliest(logits.double() / sampling.temperature, sampling) + noise).argmax(dim=-1)


def keep_likeliest(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits [... vocab] with -inf for tokens that top_k and top_p exclude; the most likely one is kept."""
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        shares = ordered.softmax(dim=-1)
        late = shares.cumsum(dim=-1) - shares >= sampling.top_p  # the tokens before have this probability
        logits = logits.masked_fill(torch.zeros_like(late).scatter(-1, order, late), -torch.inf)
    return logits


class GuidedTransformer:
    """The transformer conditioned on a prompt; it reads the tokens of a picture as they are drawn.

    Its logits are u + scale * sum_i l_i (c_i - u): classifier-free guidance for tokens, where u are the
    logits after the negative prompt, and c_i those after part i of weight l_i.
    """

    def __init__(self, network: TokenTransformer, conditioning: Conditioning, scale: float) -> None:
        self._network, self._scale = network, scale
        self._weights = [part.weight for part in conditioning.parts]
        alone = scale == 1 and self._weights == [None]
        negative = [] if conditioning.negative is None or alone else [conditioning.negative]
        self._rows: Sequence[Conditioning] = [*negative, *conditioning.parts]
        self._guided = bool(negative)
        self._copies = 1
        self._cache: Cache = []

    def begin(self, tokens: Tensor) -> Tensor:
        """The first k tokens [n copies k] -> logits of the next token [n copies vocab]."""
        n, self._copies, _ = tokens.shape
        text = torch.cat([self._text(conditioning) for conditioning in self._rows]).repeat_interleave(
            self._copies, dim=0
        )
        logits, self._cache = self._network.begin(text, self._for_all(tokens.flatten(0, 1)))
        return self._mix(logits, n)

    def go_on(self, tokens: Tensor, at: int) -> Tensor:
        """The tokens number `at` [n copies] -> logits of the next token [n copies vocab]."""
        logits = self._network.go_on(self._for_all(tokens.flatten()), at, self._cache)
        return self._mix(logits, len(tokens))

    def _text(self, conditioning: Conditioning) -> Tensor:
        assert conditioning.mask is not None, "words of this painter have a mask"
        return self._network.with_pads(conditioning.tokens[..., 0].long(), conditioning.mask)

    def _for_all(self, tokens: Tensor) -> Tensor:
        return torch.cat([tokens] * len(self._rows))

    def _mix(self, logits: Tensor, n: int) -> Tensor:
        shape = (n, self._copies, logits.shape[-1])
        outputs = [part.view(shape) for part in to_float32(logits).chunk(len(self._rows))]
        if not self._guided:
            return compose(outputs, self._weights)
        negative, *outputs = outputs
        return classifier_free(compose(outputs, self._weights, negative), negative, self._scale)
