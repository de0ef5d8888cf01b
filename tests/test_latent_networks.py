"""The networks of GAN and StyleGAN against plain formulas, loops and scipy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, dtype

from danqing.conditioning.names import Names, label_of
from danqing.core.errors import BadData
from danqing.families import gan
from danqing.families.stylegan import painter as stylegan
from danqing.nets.gan import GanConfig, GanGenerator, Maxout
from danqing.nets.latent import Verdict, halvings
from danqing.nets.stylegan import StyleConfig, StyleGenerator
from danqing.nets.stylegan.discriminator import with_deviation
from danqing.nets.stylegan.filters import binomial, double, halve, upfirdn2d
from danqing.nets.stylegan.generator import mix_styles
from danqing.nets.stylegan.layers import EqualConv, EqualLinear, ModulatedConv, leaky_relu
from danqing.training.trainer import step_generator

NAMES = Names(("cat/猫", "red apple/苹果", "apple tree", "3d/3D", "paper-cut/剪纸"))
FRESH = {
    "mlp": lambda: gan.fresh_networks("tiny-mlp", NAMES),
    "dcgan": lambda: gan.fresh_networks("tiny", NAMES),
    "stylegan": lambda: stylegan.fresh_networks("tiny", NAMES),
}
each = pytest.mark.parametrize("kind", list(FRESH))


def normal(*shape: int, seed: int = 0, dtype: dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=step_generator(seed, 0), dtype=dtype)


# ---- both families


@each
def test_shapes_and_gradients(kind: str) -> None:
    generator, discriminator = FRESH[kind]()
    drawn, label = generator.draw(4, step_generator(0, 0)), NAMES.labels([("cat", "3d")] * 4)
    pixels = generator(drawn, label)
    assert pixels.shape == (4, 4, 16, 16)
    logits = discriminator(pixels, label)
    assert logits.shape == (4,)
    logits.sum().backward()
    silent = {name for name, p in generator.named_parameters() if p.grad is None or not p.grad.any()}
    assert {name for name in silent if "strength" not in name} == set()


@each
def test_the_label_matters_to_both(kind: str) -> None:
    generator, discriminator = FRESH[kind]()
    drawn = generator.eval().draw(4, step_generator(0, 0))
    one, other = NAMES.labels([("cat", "3d")] * 4), NAMES.labels([("red apple", "3d")] * 4)
    assert not torch.equal(generator(drawn, one), generator(drawn, other))
    pixels = generator(drawn, one)
    assert not torch.equal(discriminator(pixels, one), discriminator(pixels, other))


@each
def test_draws_are_a_function_of_their_generator(kind: str) -> None:
    generator, _ = FRESH[kind]()
    one, again, other = (generator.draw(3, step_generator(0, k)) for k in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("size", "near"), [(48, "32 or 64"), (100, "64 or 128"), (4, "8"), (0, "8")])
def test_sides_are_powers_of_two(size: int, near: str) -> None:
    for config in (GanConfig, StyleConfig):
        with pytest.raises(ValueError, match=f"side of {size} pixels is no power of two: use {near}$"):
            config(size=size)
    assert [halvings(side) for side in (8, 16, 64, 1024)] == [1, 2, 4, 8]


def test_batches_that_cannot_be_learned_from() -> None:
    dcgan, judge = FRESH["dcgan"]()
    with pytest.raises(BadData, match="batch 1 is too small for batch norm: use 2 or more"):
        dcgan.check_batch(1)
    for fine in (dcgan.check_batch, judge.check_batch):
        fine(3)
    FRESH["mlp"]()[0].check_batch(1)
    _, compares = FRESH["stylegan"]()
    with pytest.raises(BadData, match=r"batch 6 is no multiple of the 4 pictures .*: use 4 or 8"):
        compares.check_batch(6)
    with pytest.raises(BadData, match=r"batch 2 .*: use 4$"):
        compares.check_batch(2)
    compares.check_batch(8)


def test_projection_verdict_by_hand() -> None:
    verdict = Verdict(6, 3)
    features, label = normal(5, 6, dtype=torch.float32), normal(5, 3, seed=1, dtype=torch.float32)
    embedded = label @ verdict.label_embedding.weight.T
    expected = [
        verdict.head(features[k]).item() + (embedded[k] @ features[k]).item() / 6**0.5 for k in range(5)
    ]
    torch.testing.assert_close(verdict(features, label), torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_maxout_is_the_largest_of_five_lines() -> None:
    layer = Maxout(3, 2)
    x = normal(4, 3, dtype=torch.float32)
    weights, biases = layer.linear.weight.view(2, 5, 3), layer.linear.bias.view(2, 5)
    for row, unit in ((r, u) for r in range(4) for u in range(2)):
        lines = [(weights[unit, piece] @ x[row] + biases[unit, piece]).item() for piece in range(5)]
        assert layer(x)[row, unit].item() == pytest.approx(max(lines), abs=1e-6)


def test_dcgan_is_as_wide_as_its_paper_draws_it() -> None:
    config = GanConfig(size=64, width=128, channels=3, latent=100)
    assert config.widths == [1024, 512, 256, 128]
    first, *_ = (layer for layer in GanGenerator(replace(config, width=2)).body if hasattr(layer, "stride"))
    assert (first.in_channels, first.out_channels, first.kernel_size) == (100, 16, (4, 4))


# ---- names


def test_names_are_found_in_words() -> None:
    def label_of_words(words: str) -> list[float]:
        return NAMES(words).tokens[0, 0].tolist()

    assert label_of_words("a cat, 3d style") == [1, 0, 0, 1, 0]
    assert label_of_words("一只猫，剪纸风格") == [1, 0, 0, 0, 1]
    assert label_of_words("two red apples and CATS") == [1, 1, 0, 0, 0]
    assert label_of_words("an apple tree") == [0, 0, 1, 0, 0]
    assert label_of_words("concatenate") == [0, 0, 0, 0, 0]
    assert NAMES("concatenate").dropped == "concatenate"
    assert NAMES("my cat").dropped == ""


def test_labels_of_rows_leave_unknown_names_out() -> None:
    assert NAMES.labels([("cat", "paper-cut"), ("dog", "3d")]).tolist() == [[1, 0, 0, 0, 1], [0, 0, 0, 1, 0]]


def test_parts_are_mixed_by_their_weights() -> None:
    one, other = NAMES("cat"), NAMES("red apple")
    both = replace(one, weight=torch.tensor([3.0]), others=(replace(other, weight=torch.tensor([1.0])),))
    assert label_of(both, 5).tolist() == [[0.75, 0.25, 0, 0, 0]]
    assert label_of(one.expand(2), 5).tolist() == [[1, 0, 0, 0, 0]] * 2


# ---- filters


@given(st.integers(1, 3), st.integers(1, 3), st.tuples(*[st.integers(0, 3)] * 4), st.integers(0, 10**6))
def test_upfirdn_is_scipys_along_rows_and_columns(up: Any, down: Any, extra: Any, seed: Any) -> None:
    """Taps of no symmetry; beyond the full convolution there are zeros."""
    x, taps = normal(2, 3, 4, 5, seed=seed), torch.tensor([1.0, 2.0, 4.0, -1.0], dtype=torch.float64)
    full = x.numpy()
    for axis in (2, 3):
        full = scipy.signal.upfirdn(taps.numpy(), full, up=up, axis=axis)
    left, right, above, below = extra
    expected = np.pad(full, [(0, 0), (0, 0), (above, below), (left, right)])[..., ::down, ::down]
    first, last = len(taps) - 1, len(taps) - up
    ours = upfirdn2d(x, taps, up, down, (first + left, last + right, first + above, last + below))
    torch.testing.assert_close(ours, torch.from_numpy(expected.copy()), rtol=0, atol=1e-12)


def test_upfirdn_cuts_before_it_filters() -> None:
    x = normal(1, 1, 6, 6)
    taps = torch.tensor([1.0, 2.0], dtype=torch.float64)
    cut = upfirdn2d(x, taps, pad=(-1, 0, 0, -2))
    torch.testing.assert_close(cut, upfirdn2d(x[..., :4, 1:], taps))


def test_down_is_scipys_too() -> None:
    x, taps = normal(1, 2, 7, 6), torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    expected = x.numpy()
    for axis in (2, 3):
        expected = scipy.signal.upfirdn(taps.numpy(), expected, up=2, down=3, axis=axis)
    ours = upfirdn2d(x, taps, up=2, down=3, pad=(3, 2, 3, 2))
    torch.testing.assert_close(ours, torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_resizing_keeps_a_constant_and_a_slope() -> None:
    flat = torch.full((1, 1, 8, 8), 0.7)
    assert double(flat)[..., 2:-2, 2:-2].sub(0.7).abs().max() < 1e-6
    assert halve(flat)[..., 1:-1, 1:-1].sub(0.7).abs().max() < 1e-6
    assert (double(flat).shape, halve(flat).shape) == ((1, 1, 16, 16), (1, 1, 4, 4))
    slope = torch.arange(8.0).expand(1, 1, 8, 8)
    steps = double(slope)[0, 0, 8, 3:-3].diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 0.5))
    centre = halve(slope)[0, 0, 2, 1:-1]
    torch.testing.assert_close(centre, torch.tensor([2.5, 4.5]))


# ---- layers


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_equalised_layers_are_ordinary_ones_with_scaled_weights(rate: float) -> None:
    linear, x = EqualLinear(7, 5, start=1.0, rate=rate), normal(4, 7, dtype=torch.float32)
    ordinary = F.linear(x, linear.weight * rate / 7**0.5, torch.ones(5))
    torch.testing.assert_close(linear(x), ordinary, rtol=1e-5, atol=1e-6)
    assert 0.5 < linear.weight.std().item() * rate < 1.5
    conv, picture = EqualConv(3, 4, 3), normal(2, 3, 6, 6, dtype=torch.float32)
    torch.testing.assert_close(conv(picture), F.conv2d(picture, conv.weight / 27**0.5, padding=1))


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_reducing_convolution_blurs_first(kernel: int) -> None:
    conv, x = EqualConv(2, 3, kernel, down=True).double(), normal(1, 2, 8, 8)
    smooth = x.numpy()
    for axis in (2, 3):
        smooth = scipy.signal.upfirdn(np.array([1, 3, 3, 1]) / 8, smooth, axis=axis)  # 3 wider
    margin = kernel // 2 + 1
    inside = torch.from_numpy(smooth)[..., 3 - margin : 8 + margin, 3 - margin : 8 + margin]
    expected = F.conv2d(inside, conv.weight * conv.gain, stride=2)
    assert expected.shape == (1, 3, 4, 4)
    torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [True, False])
def test_modulated_convolution_is_a_loop_over_the_batch(demodulate: bool, up: bool) -> None:
    """Each picture with weights of its own, float64."""
    kernel = 3
    layer = ModulatedConv(5, 4, kernel, 6, demodulate=demodulate, up=up).double()
    x, w = normal(3, 5, 8, 8), normal(3, 6, seed=1)
    scales, rows = layer.affine(w), []
    for k in range(3):
        weight = layer.weight * scales[k, None, :, None, None]
        weight = weight * (1 if demodulate else 1 / (5 * kernel**2) ** 0.5)
        if demodulate:
            weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            wide = F.conv_transpose2d(x[k : k + 1], weight.transpose(0, 1), stride=2)
            rows.append(upfirdn2d(wide, 2 * binomial(), pad=(1, 1, 1, 1)))
        else:
            rows.append(F.conv2d(x[k : k + 1], weight, padding=1))
    torch.testing.assert_close(layer(x, w), torch.cat(rows), rtol=0, atol=1e-10)
    assert layer(x, w).shape[-1] == (16 if up else 8)


def test_demodulated_features_have_deviation_one() -> None:
    layer = ModulatedConv(16, 8, 3, 6)
    x, w = normal(1000, 16, 6, 6, dtype=torch.float32), normal(1000, 6, seed=1, dtype=torch.float32)
    with torch.no_grad():
        inside = layer(x, 3 * w)[..., 1:-1, 1:-1]
    assert float(inside.std()) == pytest.approx(1, abs=0.05)
    assert inside.std(dim=(0, 2, 3)).sub(1).abs().max() < 0.05


def test_leaky_keeps_the_mean_square() -> None:
    x = normal(200_000)
    assert float(leaky_relu(x).square().mean()) == pytest.approx(
        1 + 0.04, abs=0.02
    )  # sqrt(2) leaves 4 % more


# ---- StyleGAN


def style_generator(**fields: Any) -> StyleGenerator:
    torch.manual_seed(0)
    config = StyleConfig(**{"size": 16, "latent": 8, "style": 8, "width": 8, "base": 64, **fields})
    return StyleGenerator(config)


def test_there_are_two_styles_for_every_size() -> None:
    for size, rows in ((8, 4), (16, 6), (64, 10), (256, 14), (1024, 18)):
        generator = style_generator(size=size, base=64 * size, width=4)
        assert generator.synthesis.rows == rows
        assert generator.synthesis.sides[0] == 4
        assert generator.synthesis.sides[-1] == size
        assert len(generator.synthesis.sides) == rows - 1


def test_truncation() -> None:
    generator = style_generator().eval()
    w = generator.mapping(normal(3, 8, dtype=torch.float32), torch.zeros(3, 0))
    generator.mean.fill_(0.3)
    assert torch.equal(generator.truncate(w, 1.0), w)
    same = generator.truncate(w, 0.0)
    assert torch.equal(same, torch.full_like(w, 0.3))
    torch.testing.assert_close(generator.truncate(w, 0.5), (w + 0.3) / 2)


def test_the_mapping_knows_no_length() -> None:
    generator = style_generator()
    z = normal(3, 8, dtype=torch.float32)
    one, other = (generator.mapping(scale * z, torch.zeros(3, 0)) for scale in (1, 7))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_mixing_takes_coarse_rows_from_one_and_fine_ones_from_the_other() -> None:
    one, other = torch.zeros(3, 6, 2), torch.ones(3, 6, 2)
    assert mix_styles(one, other, 4)[0, :, 0].tolist() == [0, 0, 0, 0, 1, 1]
    assert mix_styles(one, other, torch.tensor([0, 3, 6]))[..., 0].sum(dim=1).tolist() == [6, 3, 0]
    assert torch.equal(mix_styles(one[:1], other, 2), mix_styles(one, other, 2))


def test_styles_are_mixed_and_counted_in_training_only() -> None:
    generator = style_generator(mixing=1.0)
    drawn = generator.draw(64, step_generator(0, 0))
    assert drawn["cut"].min() >= 1
    assert drawn["cut"].max() < generator.synthesis.rows
    label = torch.zeros(64, 0)
    generator.eval()
    calm = generator.styles(drawn, label)
    assert torch.equal(calm, calm[:, :1].expand_as(calm))
    assert not generator.mean.any()
    generator.train()
    lively = generator.styles(drawn, label)
    assert torch.equal(lively[:, 0], calm[:, 0])
    assert not (lively[:, -1] == calm[:, -1]).all(dim=1).any()
    torch.testing.assert_close(generator.mean, 0.005 * calm[:, 0].mean(dim=0), rtol=1e-4, atol=1e-7)
    never = style_generator(mixing=0.0).draw(64, step_generator(0, 0))
    assert (never["cut"] == 6).all()


def test_noise_is_silent_until_its_strength_is_learned() -> None:
    generator = style_generator().eval()
    drawn, label = generator.draw(1, step_generator(0, 0)), torch.zeros(1, 0)
    quiet = generator.synthesis(generator.styles(drawn, label))
    assert torch.equal(generator(drawn, label), quiet)
    with torch.no_grad():
        generator.synthesis.layers[-1].strength.fill_(0.5)
    assert not torch.equal(generator(drawn, label), quiet)


def test_deviation_over_groups() -> None:
    """Pictures 0, 2, 4 and 1, 3, 5 are groups of three; the root mean square deviation of each feature."""
    x = normal(6, 2, 3, 3)
    marked = with_deviation(x, 3)
    assert marked.shape == (6, 3, 3, 3)
    for k in range(6):
        group = x[k % 2 :: 2]
        expected = (group - group.mean(dim=0)).square().mean(dim=0).sqrt().mean()
        torch.testing.assert_close(marked[k, 2], expected.expand(3, 3), rtol=1e-6, atol=1e-6)
    same = x[:1].expand(6, -1, -1, -1)
    torch.testing.assert_close(with_deviation(same, 3)[:, 2], torch.full((6, 3, 3), 1e-4).double())
