"""Filters that effects share: flow along contours, lines, flat regions, tones, inks and paper."""

from __future__ import annotations

from math import cos, pi, sin
from typing import NamedTuple

import cv2
import numpy as np

from danqing.effects._scene import Array, Scene, Whole


class Flow(NamedTuple):
    """The direction of contours.

    x, y: its unit vector [h w].
    sure: how distinct it is [h w], in [0, 1].
    """

    x: Array
    y: Array
    sure: Array


def blur(values: Array, sigma: float) -> Array:
    """A Gaussian blur; wide ones are computed on a reduced picture, which is faster."""
    if sigma < 0.3:
        return values
    if sigma > 12:
        size = values.shape[1], values.shape[0]
        factor = 4 / sigma
        small = cv2.resize(
            values, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA
        )  # at least a pixel, since sigma is a fraction of the side
        return np.asarray(cv2.resize(cv2.GaussianBlur(small, (0, 0), 4), size), np.float32)
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float32)


def lightness(picture: Array) -> Array:
    """CIE L of colours [h w 3], as [h w] in [0, 1]."""
    return np.ascontiguousarray(to_lab(picture)[..., 0]) / 100


def to_lab(picture: Array) -> Array:
    """CIE Lab: L in [0, 100]."""
    return np.asarray(cv2.cvtColor(np.clip(picture, 0, 1), cv2.COLOR_RGB2Lab), np.float32)


def from_lab(lab: Array) -> Array:
    """Colours in [0, 1], clipped."""
    return unit(cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_Lab2RGB))


def unit(values: Array) -> Array:
    """Values clipped to [0, 1]."""
    return np.asarray(np.clip(values, 0, 1), np.float32)


def step(values: Array, threshold: float | Array, width: float) -> Array:
    """A smooth step (smoothstep) from 0 to 1 where `values` pass `threshold`, over the range `width`."""
    t = np.clip((values - threshold) / width + 0.5, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def stairs(values: Array, count: int, width: float = 0.3) -> Array:
    """Quantise values in [0, 1] to `count` + 1 levels with soft steps (Winnemöller et al. 2006).

    width: of a step, as a fraction of a level.
    """
    scaled = np.clip(values, 0, 1) * count
    below = np.floor(scaled)
    return np.asarray((below + step(scaled - below, 0.5, width)) / count, np.float32)


def flow_of(values: Array, sigma: float) -> Flow:
    """The smoothed structure tensor's minor direction (Kyprianidis and Döllner 2008) of values [h w]."""
    x = cv2.Scharr(values, cv2.CV_32F, 1, 0)
    y = cv2.Scharr(values, cv2.CV_32F, 0, 1)
    tensor = np.dstack([x * x, y * y, x * y])
    tensor = blur(tensor, sigma) + 0.1 * blur(
        tensor, 6 * sigma
    )  # plain areas take the direction of the contours around them
    xx, yy, xy = np.moveaxis(tensor, -1, 0)
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)  # of the gradient
    spread = np.sqrt((xx - yy) ** 2 + 4 * xy * xy)
    sure = spread / (xx + yy + 1e-6)
    return Flow(-np.sin(angle), np.cos(angle), np.ascontiguousarray(sure))


def along(values: Array, flow: Flow, length: float) -> Array:
    """The mean of values [h w] along the flow, over about `length` pixels to both sides.

    Line integral convolution (Cabral and Leedom 1993) as four short convolutions in a row, each along the
    local tangent, so that the path curves with the flow. A direction and its opposite count as the same.
    """
    rows, columns = np.mgrid[: values.shape[0], : values.shape[1]].astype(np.float32)
    for k in range(1, 5):
        # the variances of the four add up to that of a triangle kernel of this length
        stride = k * length / 9.5
        x, y = stride * flow.x, stride * flow.y
        ahead = cv2.remap(values, columns + x, rows + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        behind = cv2.remap(values, columns - x, rows - y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        values = 0.5 * values + 0.25 * (ahead + behind)
    return values


def lines(values: Array, flow: Flow, width: float, faint: float = 0.008, soft: float = 0.014) -> Array:
    """Dark contour lines of values [h w] in [0, 1], as [h w] in [0, 1].

    Flow-based difference of Gaussians (Kang, Lee and Chui 2007), with a soft threshold (Winnemöller 2011).

    width: deviation of the Gaussian in pixels.
    faint: contrast up to which no line is drawn.
    soft: range of contrast from no line to a full one.
    """
    sigma = max(width, 0.5)
    difference = blur(values, sigma) - blur(values, 1.6 * sigma)
    difference = along(difference, flow, 5 * sigma + 2)
    return step(-difference, faint + soft / 2, soft)


def kuwahara(picture: Array, radius: float, flow: Flow | None = None, sharp: int = 3) -> Array:
    """Remove texture, keep shapes: each colour becomes the mean of the least varied of eight sectors around.

    The generalised Kuwahara filter (Papari, Petkov and Campisi 2007) with Gaussian sectors, anisotropic along
    `flow` (Kyprianidis, Kang and Döllner 2009).

    picture: colours [h w 3].
    radius: in pixels.
    flow: None for the picture's own.
    sharp: exponent that favours sectors of low variance.
    """
    radius = max(radius, 1.0)
    flow = flow_of(lightness(picture), radius) if flow is None else flow
    squares = np.einsum("ijk,ijk->ij", picture, picture)
    moments = blur(np.dstack([picture, squares]), 0.5 * radius)
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    total = np.zeros((*picture.shape[:2], 4), np.float32)
    for k in range(4):  # a sector, and the opposite one
        x, y = _offset(flow, radius * cos(k * pi / 4), radius * sin(k * pi / 4))
        for places in ((columns + x, rows + y), (columns - x, rows - y)):
            there = cv2.remap(moments, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            spread = there[..., 3] - np.einsum("ijk,ijk->ij", there[..., :3], there[..., :3])
            there[..., 3] = 1
            there *= ((0.0005 + np.maximum(spread, 0)) ** -sharp)[..., None]
            total += there
    return np.asarray(total[..., :3] / total[..., 3:], np.float32)


def _offset(flow: Flow, across: float, ahead: float) -> tuple[Array, Array]:
    """The offset in x and y of a point of an ellipse, which is longer where the flow is more distinct."""
    stretch = 1 + flow.sure
    ahead_now, across_now = ahead * stretch, across / stretch
    return ahead_now * flow.x - across_now * flow.y, ahead_now * flow.y + across_now * flow.x


class Forms(NamedTuple):
    """A picture without texture.

    flow: the direction of its contours.
    detail: colours [h w 3] with small shapes.
    large: colours [h w 3] with large shapes only.
    """

    flow: Flow
    detail: Array
    large: Array


def forms_of(scene: Scene, radius: float, detail: float = 2.6) -> Forms:
    """The shapes of a scene, larger for a larger radius (thousandths of the side); faces keep fine shapes."""
    flow = flow_of(lightness(scene.picture), scene.px(4))
    fine = kuwahara(scene.picture, scene.px(detail), flow)
    large = kuwahara(kuwahara(fine, scene.px(radius), flow, sharp=4), scene.px(radius), flow, sharp=4)
    face = blur(skin(large), scene.px(9))
    return Forms(flow, fine, cover(large, fine, step(face, 0.35, 0.4)))


def skin(picture: Array) -> Array:
    """How likely colours are those of skin, [h w] in [0, 1]: by hue and chroma in Lab."""
    lab = to_lab(picture)
    chroma, hue = np.hypot(lab[..., 1], lab[..., 2]), np.arctan2(lab[..., 2], lab[..., 1])
    return (
        step(chroma, 9, 6)
        * step(-chroma, -46, 10)
        * step(-abs(hue - 0.95), -0.45, 0.3)
        * step(lab[..., 0], 32, 14)
    )


def flatten(picture: Array, reach: float, contrast: float) -> Array:
    """Colours [h w 3] smoothed between contours by the domain transform (Gastal and Oliveira 2011).

    reach: in pixels.
    contrast: least contrast of a contour, in [0, 1].
    """
    return np.asarray(
        cv2.ximgproc.dtFilter(picture * 255, picture, reach, contrast * 255, mode=cv2.ximgproc.DTF_NC),
        np.float32,
    )


def levels(whole: Whole) -> tuple[float, float, float]:
    """The darkest, median and lightest lightness of the picture, each in [0, 1]."""
    visible = (
        lightness(whole.picture)[whole.alpha > 0.5] if (whole.alpha > 0.5).any() else np.array([0.0, 1.0])
    )
    low, middle, high = np.percentile(visible, [1, 50, 99])
    return float(low), float(middle), float(max(high, low + 0.1))


def tone(scene: Scene, picture: Array) -> Array:
    """Lightness of colours [h w 3], stretched to the range of the whole picture: [h w] in [0, 1]."""
    low, _, high = scene.whole.once(levels)
    return np.asarray(np.clip((lightness(picture) - low) / (high - low), 0, 1), np.float32)


def darkness(scene: Scene, picture: Array, middle: float) -> Array:
    """1 - tone of colours [h w 3], curved so that half of the whole picture is below `middle`: [h w]."""
    low, centre, high = scene.whole.once(levels)
    usual = np.clip(1 - (centre - low) / (high - low), 0.05, 0.95)
    curve = float(np.clip(np.log(middle) / np.log(usual), 0.6, 2.6))
    return np.asarray((1 - tone(scene, picture)) ** curve, np.float32)


def pigment(ground: Array, colour: Array, density: Array) -> Array:
    """Transparent colour [3] on a ground [... 3] (Beer and Lambert).

    density: [h w]; at 1 the result is the colour.
    """
    share = np.maximum(colour, 0.01) / np.maximum(ground, 0.01)
    return np.asarray(ground * share ** density[..., None], np.float32)


def cover(ground: Array, colour: Array, opacity: Array) -> Array:
    """Opaque colour [3] or [h w 3] over a ground [... 3]; opacity [h w]."""
    return np.asarray(ground + (colour - ground) * opacity[..., None], np.float32)


def displace(picture: Array, x: Array, y: Array) -> Array:
    """A picture whose pixels are taken from x and y [h w] pixels away."""
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    return np.asarray(
        cv2.remap(picture, columns + x, rows + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32
    )


def inks(lab: Array, palette: Array, soft: float, smooth: float, tint: float = 1.0) -> Array:
    """The nearest ink of a palette for each pixel: colours [h w 3] in [0, 1].

    lab: [h w 3].
    palette: colours [k 3].
    soft: how far inks mix, in units of Lab.
    smooth: pixels over which borders between inks are smoothed.
    tint: weight of hue against lightness.
    """
    scale = np.array([1, tint, tint], np.float32)
    nearest = np.stack(
        [blur(np.linalg.norm((lab - ink) * scale, axis=-1), smooth) for ink in to_lab(palette[None])[0]],
        axis=-1,
    )
    share = np.exp((nearest.min(axis=-1, keepdims=True) - nearest) / soft)
    return np.asarray(share @ palette / share.sum(axis=-1, keepdims=True), np.float32)


def rich(lab: Array, chroma: float) -> Array:
    """Colours in Lab with their chroma multiplied by `chroma`; strong colours grow less."""
    length = np.linalg.norm(lab[..., 1:], axis=-1, keepdims=True)
    most = 95.0
    factor = most * np.tanh(chroma * length / most) / np.maximum(length, 1e-3)
    return np.concatenate([lab[..., :1], lab[..., 1:] * factor], axis=-1).astype(np.float32)


def grain(scene: Scene, key: int) -> Array:
    """The height of rough paper [h w], mean 0, deviation about 1: three octaves of noise."""
    return 0.62 * scene.noise(1.6, key) + 0.55 * scene.noise(4, key + 1) + 0.55 * scene.noise(14, key + 2)


def silk(scene: Scene, key: int) -> Array:
    """The height of woven silk threads [h w], mean 0, deviation about 1."""
    return 0.7 * scene.noise(1.2, key, across=30) + 0.7 * scene.noise(30, key + 1, across=1.2)
