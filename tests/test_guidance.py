"""Guidance against its formulas, with a network that records how it was called."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from danqing.core.painter import Conditioning
from danqing.diffusion.guidance import Guidance, guide
from danqing.diffusion.schedule import Level

LEVEL = Level(alpha=0.6, sigma=0.8, t=500.0)


class Recorder:
    """Answers x times the first word's first number; remembers the number of rows of each call."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def __call__(self, x: Tensor, t: Tensor, words: Conditioning) -> Tensor:
        assert len(x) == len(t) == len(words)
        assert (t == 500).all()
        self.rows.append(len(x))
        return x * words.tokens[:, 0, 0].view(-1, 1, 1, 1)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def words(with_negative: bool = True) -> Conditioning:
    negative = Conditioning(torch.full((3, 5, 2), -1.0)) if with_negative else None
    return Conditioning(torch.full((3, 5, 2), 2.0), negative=negative)


@pytest.mark.parametrize("scale", [0.5, 3.0, 7.5])
def test_classifier_free_in_one_call(x: Tensor, scale: float) -> None:
    network = Recorder()
    output = guide(network, words(), Guidance(scale))(x, LEVEL)
    torch.testing.assert_close(output, -x + scale * (2 * x - -x))
    assert network.rows == [6]


@pytest.mark.parametrize(("scale", "factor"), [(1.0, 2.0), (0.0, -1.0)])
def test_scales_that_need_one_answer(x: Tensor, scale: float, factor: float) -> None:
    network = Recorder()
    torch.testing.assert_close(guide(network, words(), Guidance(scale))(x, LEVEL), factor * x)
    assert network.rows == [3]


@pytest.mark.parametrize(("interval", "rows"), [((500, 501), 6), ((400, 500), 3), ((501, 999), 3)])
def test_interval(x: Tensor, interval: tuple[int, int], rows: int) -> None:
    network = Recorder()
    guide(network, words(), Guidance(4.0, interval=interval))(x, LEVEL)
    assert network.rows == [rows]


def test_open_interval_guides_at_pure_noise() -> None:
    assert Guidance(4.0).scale_at(Level(0.0, 1.0, 999.0)) == 4.0
    assert Guidance(4.0, interval=(-math.inf, 999.0)).scale_at(Level(0.0, 1.0, 999.0)) == 1.0


def test_full_rescale_restores_the_deviation(x: Tensor) -> None:
    output = guide(Recorder(), words(), Guidance(6.0, rescale=1.0))(x, LEVEL)
    torch.testing.assert_close(output.std((1, 2, 3)), (2 * x).std((1, 2, 3)))


def test_a_negative_is_needed() -> None:
    with pytest.raises(ValueError, match="needs a negative"):
        guide(Recorder(), words(with_negative=False), Guidance(2.0))
    guide(Recorder(), words(with_negative=False), Guidance(1.0))
