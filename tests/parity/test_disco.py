"""CLIP guidance against closed forms, numpy and central differences; key frames against `numpy.interp`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from danqing.conditioning.encode import encode
from danqing.conditioning.grammar import parse
from danqing.conditioning.keyframes import KeyFrames
from danqing.core.seeds import Seeds
from danqing.diffusion.clip_guidance import (
    GradientGuidance,
    condition_score,
    range_loss,
    saturation_loss,
    spherical_distance,
    total_variation,
)
from danqing.diffusion.samplers import DenoiserOutput
from danqing.diffusion.schedule import Level
from danqing.families.clip import ClipScorer, build_clip
from danqing.families.disco.loss import ClipModels, Loss
from danqing.families.disco.settings import Settings
from danqing.families.stable_diffusion.painter import byte_tokenizer

LEVEL = Level(alpha=0.6, sigma=0.8, t=500.0)


def drawn(*shape: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread


def differences(function: Callable[..., Any], x: Tensor, step: float = 1e-6) -> Tensor:
    """The gradient of a function to one number at x, by central differences."""
    gradient = torch.zeros_like(x)
    for k in range(x.numel()):
        nudge = torch.zeros_like(x).view(-1)
        nudge[k] = step
        nudge = nudge.view_as(x)
        gradient.view(-1)[k] = (function(x + nudge) - function(x - nudge)) / (2 * step)
    return gradient


def test_spherical_distance_is_half_the_squared_angle() -> None:
    """Also in the original's form, 2 asin(|u - v| / 2)^2. Measured: 1e-15 and 4e-15 in float64."""
    u, v = (torch.nn.functional.normalize(drawn(200, 8, seed=seed), dim=-1) for seed in (0, 1))
    angle = torch.acos((u * v).sum(-1).clamp(-1, 1))
    torch.testing.assert_close(spherical_distance(u, v), angle**2 / 2, rtol=0, atol=1e-12)
    original = 2 * torch.asin((u - v).norm(dim=-1) / 2) ** 2
    torch.testing.assert_close(spherical_distance(u, v), original, rtol=0, atol=1e-12)
    single = spherical_distance(u.float(), v.float())
    torch.testing.assert_close(single, (angle**2 / 2).float(), rtol=0, atol=1e-6 * math.pi**2)


@pytest.mark.parametrize("sign", [1, -1])
def test_spherical_distance_at_equal_and_opposite_vectors(sign: int) -> None:
    u = torch.nn.functional.normalize(drawn(3, 8), dim=-1).requires_grad_()
    distance = spherical_distance(u, sign * u.detach())
    expected = 0.0 if sign > 0 else math.pi**2 / 2
    torch.testing.assert_close(distance, torch.full_like(distance, expected))
    (gradient,) = torch.autograd.grad(distance.sum(), u)
    assert gradient.isfinite().all()
    assert (gradient == 0).all()


def test_losses_are_what_numpy_says() -> None:
    x = drawn(2, 3, 5, 4, spread=1.5)
    n = x.numpy()
    padded = np.pad(n, ((0, 0), (0, 0), (0, 1), (0, 1)), mode="edge")
    across, down = padded[..., :-1, 1:] - n, padded[..., 1:, :-1] - n
    beyond = n - n.clip(-1, 1)
    expected = {
        total_variation: (across**2 + down**2).mean((1, 2, 3)),
        range_loss: (beyond**2).mean((1, 2, 3)),
        saturation_loss: abs(beyond).mean((1, 2, 3)),
    }
    for loss, value in expected.items():
        torch.testing.assert_close(loss(x), torch.from_numpy(value), rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", [total_variation, range_loss, saturation_loss])
def test_losses_fall_as_their_gradients_say(loss: Callable[..., Any]) -> None:
    """Measured: 4e-10."""
    x = drawn(1, 3, 4, 4, spread=1.5).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x).sum(), x)
    expected = differences(lambda y: loss(y).sum(), x.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)
    assert gradient.abs().max() > 0


def test_condition_score_is_the_algebra_of_the_noise() -> None:
    """guided-diffusion: noise - sqrt(1 - alpha_bar) gradient, and the x0 that follows from it."""
    x, clean, gradient = (drawn(2, 3, 4, 4, seed=seed) for seed in range(3))
    noise = (x - LEVEL.alpha * clean) / LEVEL.sigma
    alpha_bar = LEVEL.alpha**2
    moved = noise - math.sqrt(1 - alpha_bar) * gradient
    expected = (x - math.sqrt(1 - alpha_bar) * moved) / math.sqrt(alpha_bar)
    torch.testing.assert_close(condition_score(clean, gradient, LEVEL), expected, rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def scorer() -> ClipScorer:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(16)
    return ClipScorer.of(build_clip("tiny", tokenizer).double(), tokenizer)


@pytest.mark.parametrize("augment", [True, False])
def test_the_whole_gradient_through_network_codec_cuts_and_clip(scorer: ClipScorer, augment: bool) -> None:
    """In float64 on a state of 4 x 4, with the same cuts each time. Measured: 1e-7 of the largest."""
    matrix, mix = drawn(3, 3, seed=1, spread=0.6), drawn(3, 3, seed=2, spread=0.6)
    chosen = Settings(
        cutn_batches=1,
        cut_overview="[2]*1000",
        cut_innercut="[1]*1000",
        tv_scale=300,
        sat_scale=200,
        skip_augs=not augment,
    )
    said = encode(ClipModels((scorer,)), parse("a cat::2 a dog::-0.5"), parse(""), 1)
    near = drawn(1, 3, 4, 4, seed=3)

    def losses() -> Loss:
        return Loss((scorer,), chosen, said, 5.0, [-9.0], 1000, near, Seeds([7]))

    def denoise(x: Tensor, _level: Level) -> DenoiserOutput:
        return DenoiserOutput(torch.tanh(torch.einsum("ij,njhw->nihw", matrix, x)))

    def decode(state: Tensor) -> Tensor:
        return torch.einsum("ij,njhw->nihw", mix, state) * 1.5

    def value(x: Tensor) -> Any:
        seen = decode(LEVEL.sigma * denoise(x, LEVEL).x0 + (1 - LEVEL.sigma) * x)
        with torch.no_grad():
            return sum(loss.sum() for loss in losses()(seen, LEVEL))

    x = drawn(1, 3, 4, 4, seed=4).requires_grad_()
    gradient = GradientGuidance(denoise, decode, losses(), clamp=None).gradient(
        x, denoise(x, LEVEL).x0, LEVEL
    )
    expected = -differences(value, x.detach(), 1e-5)
    assert expected.abs().max() > 0
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.integers(0, 999), st.decimals(-99, 99, places=4).map(float), min_size=1, max_size=6),
    st.lists(st.integers(0, 1200), min_size=1, max_size=8),
)
def test_key_frames_are_numpys_interp(keys: Any, frames: Any) -> None:
    text = ", ".join(f"{frame}: ({value:.4f})" for frame, value in keys.items())
    read = KeyFrames.parse(text)
    rising = sorted(keys)
    for frame in frames:
        assert read.at(frame) == np.interp(frame, rising, [keys[key] for key in rising])
