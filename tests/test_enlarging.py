"""Enlarging: tiles equal the whole, alpha, repeating pictures, painters that have learned no upscaler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from danqing.apps._tiled_upscale import enlarged, method, pieces, reach_of
from danqing.core.card import Can
from danqing.core.errors import BadBrief
from danqing.core.images import from_pil, to_pil
from danqing.families import open_painter
from danqing.families.stable_diffusion.painter import random_painter
from danqing.nets.upscaler import Upscaler, UpscalerConfig
from tests.toy import CARD, Toy


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(height, width, channels=4, seed=0):
    return torch.rand(1, channels, height, width, generator=rng(seed)) * 2 - 1


def upscaler(depth, channels=4):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(depth)
        network = Upscaler(UpscalerConfig(channels=channels, width=4, depth=depth)).requires_grad_(False)
        torch.nn.init.normal_(network.head.weight, std=0.1)
    return network


def painter(depth=2):
    made = random_painter()
    made.enlarger = upscaler(depth)
    return made


def picture(height, width, seed=0):
    small = to_pil(noise(max(1, height // 4), max(1, width // 4), seed=seed), "transparent")[0]
    return small.resize((width, height), Image.Resampling.BICUBIC)


def assembled(pixels, enlarge, reach, side):
    whole = torch.full((1, pixels.shape[1], 4 * pixels.shape[2], 4 * pixels.shape[3]), torch.nan)
    for left, top, piece in pieces(pixels, enlarge, reach, side):
        whole[..., top : top + piece.shape[-2], left : left + piece.shape[-1]] = piece
    return whole


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_reach_is_that_of_the_convolutions(depth):
    assert reach_of(upscaler(depth)) == depth + 1


@pytest.mark.parametrize(("height", "width"), [(16, 16), (37, 23), (8, 50), (1, 3)])
def test_tiles_are_the_whole_and_a_smaller_overlap_is_not(height, width):
    """Measured: 1.2e-7."""
    pixels, network = noise(height, width), upscaler(2)
    whole = network(pixels)
    assert (assembled(pixels, network, 3, 8) - whole).abs().max() < 1e-6
    if height * width > 100:
        assert (assembled(pixels, network, 1, 8) - whole).abs().max() > 1e-3


def test_tiles_of_the_shipped_upscaler_are_the_whole():
    """Measured: 1.2e-7, at a reach of 9."""
    stickers = open_painter("stickers")
    pixels, reach = noise(200, 300), reach_of(stickers.enlarge)
    assert reach == 9
    assert (assembled(pixels, stickers.enlarge, reach, 128) - stickers.enlarge(pixels)).abs().max() < 1e-6


def test_a_picture_is_what_the_painter_makes_of_it():
    given, toldof, who = picture(140, 150), [], painter()
    large = enlarged(given, who, progress=lambda now: toldof.append((now.step, now.of)))
    (whole,) = to_pil(who.enlarge(from_pil(given)[None]), "transparent")
    assert large.mode == "RGBA"
    assert large.size == (600, 560)
    assert np.abs(np.asarray(large).astype(int) - np.asarray(whole)).max() <= 1
    assert toldof == [(k, 4) for k in range(1, 5)]


def test_an_opaque_picture_stays_opaque():
    assert enlarged(picture(9, 12).convert("L"), painter()).mode == "RGB"


def test_a_repeating_picture_repeats_when_large():
    """Turned by half its sides before or after: the same but for the rounding of floats to bytes."""
    given, who = picture(24, 40), painter()

    def turned(image):
        array = np.asarray(image)
        return Image.fromarray(np.roll(array, (array.shape[0] // 2, array.shape[1] // 2), axis=(0, 1)))

    for able in (who, Toy(CARD.model_copy(update={"scale": 1}))):
        first = np.asarray(turned(enlarged(given, able, tile=True))).astype(int)
        second = np.asarray(enlarged(turned(given), able, tile=True)).astype(int)
        assert np.abs(first - second).max() <= 1
    plain = np.asarray(turned(enlarged(given, who))).astype(int)
    assert np.abs(plain - np.asarray(enlarged(turned(given), who)).astype(int)).max() > 1


def test_an_upscaler_without_alpha_enlarges_alpha_as_grey():
    who = painter()
    who.card = who.card.model_copy(update={"can": who.card.can - {Can.ALPHA}})
    who.enlarger = upscaler(2, channels=3)
    large = enlarged(picture(12, 12), who)
    assert large.mode == "RGBA"
    grey = from_pil(picture(12, 12))[None, 3:].expand(-1, 3, -1, -1)
    alpha = np.asarray(to_pil(who.enlarge(grey).mean(dim=1, keepdim=True).expand(-1, 3, -1, -1))[0])[..., 0]
    found = np.asarray(large)[..., 3].astype(int)
    assert np.abs(found - np.where(alpha > 15, alpha, 0)).max() <= 1


def test_without_an_upscaler_it_is_lanczos_and_says_so():
    plain = Toy(CARD.model_copy(update={"scale": 1}))
    given = picture(10, 14).convert("RGB")
    theirs = given.resize((56, 40), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(enlarged(given, plain)), np.asarray(theirs))
    assert enlarged(picture(10, 14), plain).mode == "RGBA"
    assert "Lanczos" in method(plain)
    assert "Lanczos" not in method(painter())


def test_too_large_a_picture_is_told_before_any_work():
    with pytest.raises(BadBrief, match="2000 x 1500, enlarged x4, is 48 megapixels"):
        enlarged(Image.new("RGB", (2000, 1500)), painter())
