"""Enlarging: tiles equal the whole, alpha, repeating pictures, painters that have learned no upscaler."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor

from danqing.apps._tiled_upscale import in_colour_and_alpha, method, reach_of, resize, tiles, upscale_image
from danqing.apps.upscale import upscale
from danqing.core.card import Can
from danqing.core.errors import BadBrief
from danqing.core.images import from_pil, to_pil
from danqing.diffusion.painter import DiffusionPainter
from danqing.families import open_painter
from danqing.families.stable_diffusion.painter import random_painter
from danqing.nets.upscaler import Upscaler, UpscalerConfig
from tests.toy import CARD, Toy

SAMPLES = Path(__file__).parent.parent / "samples" / "stickers"


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def noise(height: int, width: int, channels: Any = 4, seed: int = 0) -> Tensor:
    return torch.rand(1, channels, height, width, generator=rng(seed)) * 2 - 1


def upscaler(depth: int, channels: int = 4) -> Upscaler:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(depth)
        network = Upscaler(UpscalerConfig(channels=channels, width=4, depth=depth)).requires_grad_(False)
        torch.nn.init.normal_(network.head.weight, std=0.1)
    return network


def painter(depth: Any = 2) -> DiffusionPainter:
    made = random_painter()
    made.upscaler = upscaler(depth)
    return made


def picture(height: int, width: int, seed: Any = 0) -> Image.Image:
    small = to_pil(noise(max(1, height // 4), max(1, width // 4), seed=seed), "transparent")[0]
    return small.resize((width, height), Image.Resampling.BICUBIC)


def assembled(pixels: Tensor, upscale: Upscaler | Callable[..., Any], reach: int, side: int) -> Tensor:
    whole = torch.full((1, pixels.shape[1], 4 * pixels.shape[2], 4 * pixels.shape[3]), torch.nan)

    def view(box: tuple[int, ...]) -> Tensor:
        return pixels[..., box[1] : box[3], box[0] : box[2]]

    for left, top, piece in tiles(view, (pixels.shape[-1], pixels.shape[-2]), upscale, reach, side):
        whole[..., top : top + piece.shape[-2], left : left + piece.shape[-1]] = piece
    return whole


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_reach_is_that_of_the_convolutions(depth: int) -> None:
    assert reach_of(upscaler(depth)) == depth + 1


@pytest.mark.parametrize(("height", "width"), [(16, 16), (37, 23), (8, 50), (1, 3)])
def test_tiles_are_the_whole_and_a_smaller_overlap_is_not(height: int, width: int) -> None:
    """Measured: 1.2e-7."""
    pixels, network = noise(height, width), upscaler(2)
    whole = network(pixels)
    assert (assembled(pixels, network, 3, 8) - whole).abs().max() < 1e-6
    if height * width > 100:
        assert (assembled(pixels, network, 1, 8) - whole).abs().max() > 1e-3


def test_tiles_of_the_shipped_upscaler_are_the_whole() -> None:
    """Measured: 1.2e-7, at a reach of 9."""
    stickers = open_painter("stickers")
    pixels, reach = noise(200, 300), reach_of(stickers.upscale)
    assert reach == 9
    assert (assembled(pixels, stickers.upscale, reach, 128) - stickers.upscale(pixels)).abs().max() < 1e-6


def test_a_picture_is_what_the_painter_makes_of_it() -> None:
    given, toldof, who = picture(140, 150), [], painter()
    large = upscale_image(given, who, progress=lambda now: toldof.append((now.step, now.of)))
    (whole,) = to_pil(who.upscale(from_pil(given)[None]), "transparent")
    assert large.mode == "RGBA"
    assert large.size == (600, 560)
    assert np.abs(np.asarray(large).astype(int) - np.asarray(whole)).max() <= 1
    assert toldof == [(k, 4) for k in range(1, 5)]


def test_an_opaque_picture_stays_opaque() -> None:
    assert upscale_image(picture(9, 12).convert("L"), painter()).mode == "RGB"


def test_a_repeating_picture_repeats_when_large() -> None:
    """Turned by half its sides before or after: the same but for the rounding of floats to bytes."""
    given, who = picture(24, 40), painter()

    def turned(image: Image.Image) -> Image.Image:
        array = np.asarray(image)
        return Image.fromarray(np.roll(array, (array.shape[0] // 2, array.shape[1] // 2), axis=(0, 1)))

    for able in (who, Toy(CARD.model_copy(update={"scale": 1}))):
        first = np.asarray(turned(upscale_image(given, able, tile=True))).astype(int)
        second = np.asarray(upscale_image(turned(given), able, tile=True)).astype(int)
        assert np.abs(first - second).max() <= 1
    plain = np.asarray(turned(upscale_image(given, who))).astype(int)
    assert np.abs(plain - np.asarray(upscale_image(turned(given), who)).astype(int)).max() > 1


def test_an_upscaler_without_alpha_enlarges_alpha_as_grey() -> None:
    who = painter()
    who.card = who.card.model_copy(update={"can": who.card.can - {Can.ALPHA}})
    who.upscaler = upscaler(2, channels=3)
    large = upscale_image(picture(12, 12), who)
    assert large.mode == "RGBA"
    grey = from_pil(picture(12, 12))[None, 3:].expand(-1, 3, -1, -1)
    alpha = np.asarray(to_pil(who.upscale(grey).mean(dim=1, keepdim=True).expand(-1, 3, -1, -1))[0])[..., 0]
    found = np.asarray(large)[..., 3].astype(int)
    assert np.abs(found - np.where(alpha > 15, alpha, 0)).max() <= 1


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [(150, 131), (60, 70)])
def test_any_factor_in_tiles_is_what_the_whole_would_be(factor: int, size: tuple[int, int]) -> None:
    """Where shrinking crosses the border of a tile, too. Measured: 1 of 255, by rounding."""
    given, who = picture(size[1], size[0]), painter()
    large = upscale_image(given, who, factor)
    assert large.size == (factor * size[0], factor * size[1])
    with torch.no_grad():
        whole = in_colour_and_alpha(who, factor)(from_pil(given)[None])
    expected = np.asarray(to_pil(whole, "transparent")[0]).astype(int)
    assert np.abs(np.asarray(large).astype(int) - expected).max() <= 1


def test_a_factor_keeps_what_a_picture_shows() -> None:
    """Shrunk back it is nearly the picture itself, with the shipped upscaler: no shift, no colour cast."""
    with Image.open(SAMPLES / "3d" / "tiger.png") as sample:
        given = Image.new("RGB", sample.size, "white")
        given.paste(sample, mask=sample if sample.mode == "RGBA" else None)
    given = resize(given, (128, 128))
    for factor in (2, 3, 8):
        back = upscale_image(given, open_painter("stickers"), factor).resize((128, 128), Image.Resampling.BOX)
        difference = np.asarray(back).astype(float) - np.asarray(given)
        assert abs(difference.mean()) < 1
        assert np.abs(difference).mean() < 4


def test_the_app_enlarges_as_often_as_asked() -> None:
    who = painter()
    given = picture(20, 12).convert("RGB")
    for factor in (2, 3, 4, 8):
        [large] = upscale(given, scale=factor, painter=who, seed=1)
        assert large.image.size == (12 * factor, 20 * factor)
        assert large.info.inputs["scale"] == factor
    [fresh] = upscale(given, scale="2", creative=True, prompt="a cat", painter=who, seed=1, steps=4)
    assert fresh.image.size == (24, 40)
    with pytest.raises(BadBrief, match="scale 5: input should be 2, 3, 4 or 8"):
        upscale(given, scale=5, painter=who)


def test_memory_is_that_of_both_pictures_and_a_tile() -> None:
    """Of 4 megapixels, in a process of its own."""
    side, factor = 512, 4
    code = f"""
import resource
from PIL import Image
from tests.test_upscaling import upscale_image, painter
who, small = painter(1), Image.effect_noise(({side}, {side}), 50).convert("RGB")
upscale_image(small.crop((0, 0, 300, 300)), who, {factor})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert upscale_image(small, who, {factor}).size == ({factor * side}, {factor * side})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 4 * (factor * side) ** 2 + 2**24


def test_without_an_upscaler_it_is_lanczos_and_says_so() -> None:
    plain = Toy(CARD.model_copy(update={"scale": 1}))
    given = picture(10, 14).convert("RGB")
    theirs = given.resize((56, 40), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(upscale_image(given, plain)), np.asarray(theirs))
    assert upscale_image(picture(10, 14), plain).mode == "RGBA"
    assert "Lanczos" in method(plain)
    assert "Lanczos" not in method(painter())


def test_too_large_a_picture_is_told_before_any_work() -> None:
    for factor, fix in ((4, "use scale 3"), (8, "use scale 3")):
        size = {4: (3000, 2500), 8: (3100, 2500)}[factor]
        with pytest.raises(BadBrief, match=f"enlarged x{factor}, is .* megapixels: {fix}, for at most 100"):
            upscale_image(Image.new("RGB", size), painter(), factor)
    with pytest.raises(BadBrief, match="give a smaller picture"):
        upscale_image(Image.new("RGB", (9000, 9000)), painter(), 2)
