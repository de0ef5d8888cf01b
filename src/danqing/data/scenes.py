"""Makes scenes from a data set's pictures: recoloured things, several of a thing, two things side by side.

They teach colours, numbers and places, which single named things cannot. Captions are exact and in both
languages; the row's field `phrase` says what the scene shows. A scene is held out if one of its pictures is.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danqing.core.errors import BadData, shorten
from danqing.core.files import atomic_write
from danqing.core.progress import Progress, ProgressCallback, no_progress
from danqing.data.captions import COUNTS, article, counted_caption, plain_captions
from danqing.data.dataset import read_rows
from danqing.data.drawing_sets import slug

Row = dict[str, Any]
Array = NDArray[np.float32]

# English name -> (Chinese name, hue in degrees, factor of the saturation)
COLOURS: dict[str, tuple[str, float, float]] = {
    "red": ("红色的", 0, 1.0),
    "orange": ("橙色的", 28, 1.0),
    "yellow": ("黄色的", 50, 1.0),
    "green": ("绿色的", 120, 1.0),
    "blue": ("蓝色的", 215, 1.0),
    "purple": ("紫色的", 280, 1.0),
    "pink": ("粉色的", 335, 0.55),
}
# English name -> (Chinese name, shift of the first thing to the right and down)
PLACES: dict[str, tuple[str, tuple[float, float]]] = {
    "left of": ("左边", (-1, 0)),
    "right of": ("右边", (1, 0)),
    "above": ("上面", (0, -1)),
    "below": ("下面", (0, 1)),
}
STYLES = ("3d", "flat", "cartoon")  # only pictures in these styles have natural colours and are recoloured
_LAYOUTS = {  # number of things -> their centres and their side, as fractions of the picture's side
    2: (((0.27, 0.5), (0.73, 0.5)), 0.46),
    3: (((0.5, 0.27), (0.27, 0.73), (0.73, 0.73)), 0.46),
    4: (((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)), 0.46),
}
OTHER_COLOURS = {"black", "white", "brown", "grey", "gray", "golden", "silver"}
_NEAR = 45.0  # hues at most so many degrees from the commonest one are shifted with it
_PALE = 0.12  # a picture of lower mean saturation has no colour to shift, and is tinted


@dataclass(frozen=True)
class SceneOptions:
    """How many scenes of each kind are made of each picture in a style of `STYLES`."""

    colours: int = 3
    counts: int = 1
    places: int = 1
    seed: int = 0


def compose(
    source: Path, folder: Path, options: SceneOptions, progress: ProgressCallback = no_progress
) -> int:
    """Write a data set of the pictures in `source` and of scenes made from them.

    Returns the number of pictures.

    progress: counts pictures.

    Raises:
        BadData: `source` is not a data set, its rows lack a concept or a style, it has no picture in
            `STYLES`, or a picture cannot be read.
    """
    index = source / "metadata.jsonl"
    if not index.is_file():
        raise BadData(f"{str(index)!r} is missing: build it first, as with 'danqing data stickers'")
    rows = list(read_rows(index))
    for row in rows:
        if not row.get("concept") or not row.get("style"):
            raise BadData(f"{row['file_name']!r} tells no concept and style: scenes are made of named things")
    if not any(row["style"] in STYLES for row in rows):
        raise BadData(
            f"{str(source)!r} has no picture in a style that can be recoloured: {', '.join(STYLES)}"
        )
    made = [*rows, *_scenes(rows, source, folder, options, progress)]
    for row in rows:
        (folder / row["file_name"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / row["file_name"], folder / row["file_name"])
    with atomic_write(folder / "metadata.jsonl") as draft:
        draft.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made), "utf-8")
    return len(made)


def shift_hue(picture: Array, degrees: float, share: float = 1.0) -> Array:
    """Shift the commonest hue of an RGBA picture [h w 4] in [0, 1], and hues near it, to `degrees`.

    share: factor of the saturation, in [0, 1]. A picture with hardly any colour is tinted instead.
    """
    hue, saturation, value = _hsv(picture[..., :3])
    weight = picture[..., 3] * saturation * value
    if weight.sum() < _PALE * picture[..., 3].sum():
        tint = _rgb(np.full_like(hue, degrees), np.full_like(hue, 0.55 * share), value)
        return np.concatenate([tint, picture[..., 3:]], axis=-1).astype(np.float32)
    bins, edges = np.histogram(hue, bins=72, range=(0, 360), weights=weight)
    smooth = sum(np.roll(bins, k) for k in (-2, -1, 0, 1, 2))
    common = float(edges[int(np.argmax(smooth))]) + 2.5
    away = (hue - common + 180) % 360 - 180
    turned = np.abs(away) < _NEAR
    new_hue = np.where(turned, (degrees + 0.5 * away) % 360, hue)
    new_saturation = np.where(turned, saturation * share, saturation)
    return np.concatenate([_rgb(new_hue, new_saturation, value), picture[..., 3:]], axis=-1).astype(
        np.float32
    )


def repeat_on_canvas(picture: Image.Image, count: int) -> Image.Image:
    """The picture 2 to 4 times (`count`), on one canvas of its own size."""
    centres, side = _LAYOUTS[count]
    return _arrange([picture] * count, centres, side)


def side_by_side(one: Image.Image, other: Image.Image, place: str) -> Image.Image:
    """Both pictures on one canvas.

    `place`, a name in `PLACES`, says where the first is, seen from the second.
    """
    right, down = PLACES[place][1]
    centres = ((0.5 + 0.24 * right, 0.5 + 0.24 * down), (0.5 - 0.24 * right, 0.5 - 0.24 * down))
    return _arrange([one, other], centres, 0.48)


def _scenes(
    rows: Sequence[Row],
    source: Path,
    folder: Path,
    options: SceneOptions,
    progress: ProgressCallback,
) -> Iterator[Row]:
    base = [row for row in rows if row["style"] in STYLES]
    rng = random.Random(options.seed)
    for done, row in enumerate(base, start=1):
        picture = _open(source / row["file_name"])
        scenes = [*_colour_scenes(row, picture, options, rng), *_count_scenes(row, picture, options, rng)]
        alike = [other for other in base if other["style"] == row["style"]]
        scenes += _place_scenes(row, picture, rng.choice(alike), source, options, rng)
        for row_of_scene, scene in scenes:
            path = folder / row_of_scene["file_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as draft:
                scene.save(draft, "PNG")
            yield row_of_scene
        progress(Progress(done, len(base)))


def _colour_scenes(
    row: Row, picture: Image.Image, options: SceneOptions, rng: random.Random
) -> Iterator[tuple[Row, Image.Image]]:
    names = _colourless(row["concept"], _chinese(row))
    if names is None:
        return
    for colour in rng.sample(sorted(COLOURS), k=min(options.colours, len(COLOURS))):
        chinese, degrees, share = COLOURS[colour]
        pixels = shift_hue(np.asarray(picture, np.float32) / np.float32(255), degrees, share)
        image = Image.fromarray((pixels * 255).round().clip(0, 255).astype(np.uint8), "RGBA")
        yield {**_scene_row(row, f"{colour} {names[0]}", f"{chinese}{names[1]}"), "colour": colour}, image


def _count_scenes(
    row: Row, picture: Image.Image, options: SceneOptions, rng: random.Random
) -> Iterator[tuple[Row, Image.Image]]:
    for count in rng.sample(sorted(COUNTS), k=min(options.counts, len(COUNTS))):
        phrase = counted_caption(row["concept"], _chinese(row), count, animal="animal" in row.get("tags", ()))
        if phrase is not None:
            yield _nameless(_scene_row(row, *phrase)), repeat_on_canvas(picture, count)


def _place_scenes(
    row: Row, picture: Image.Image, other: Row, source: Path, options: SceneOptions, rng: random.Random
) -> Iterator[tuple[Row, Image.Image]]:
    if other["concept"] == row["concept"]:
        return
    second = _open(source / other["file_name"]).resize(picture.size)
    for place in rng.sample(sorted(PLACES), k=min(options.places, len(PLACES))):
        name = other["concept"]
        words = f"{row['concept']} {place} {article(name)} {name}".replace("  ", " ")
        chinese = f"{_chinese(row)}在{_chinese(other)}{PLACES[place][0]}"
        row_of_scene = _nameless(_scene_row(row, words, chinese))
        row_of_scene["held_out"] = bool(row.get("held_out") or other.get("held_out"))
        yield row_of_scene, side_by_side(picture, second, place)


def _scene_row(row: Row, phrase: str, phrase_zh: str) -> Row:
    """The metadata row of a scene with that phrase, made from the picture of `row`."""
    text, text_zh = plain_captions(phrase, phrase_zh, row["style"])
    fields = {"phrase": phrase, "phrase_zh": phrase_zh, "text": text, "text_zh": text_zh}
    stem = PurePosixPath(row["file_name"]).stem  # there may be several drawings of one thing
    return {**row, **fields, "file_name": f"scenes/{row['style']}/{stem}-{slug(phrase)}.png"}


def _nameless(row: Row) -> Row:
    """The row without its concept: a scene does not show a single thing that the judge has a class for."""
    return {key: value for key, value in row.items() if key not in ("concept", "concept_zh")}


def _chinese(row: Row) -> str:
    return str(row.get("concept_zh") or row["concept"])


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGBA")
    except OSError as error:
        raise BadData(f"{str(path)!r} cannot be read ({shorten(str(error))}): build the data again") from None


def _colourless(name: str, name_zh: str) -> tuple[str, str] | None:
    """Both names without a leading colour, to avoid "a blue red apple".

    None if another colour word remains.
    """
    first, _, rest = name.partition(" ")
    if not rest or first not in COLOURS:
        return None if OTHER_COLOURS & {*name.split()} else (name, name_zh)
    character = COLOURS[first][0][0]
    rest_zh = re.sub(f"^{character}(色的?)?", "", name_zh)
    coloured = {english[0] for english, *_ in COLOURS.values()} | set("青黑白棕灰金银")
    return None if len(rest_zh) < 2 or rest_zh[0] in coloured else (rest, rest_zh)


def _arrange(
    pictures: Sequence[Image.Image], centres: Sequence[tuple[float, float]], side: float
) -> Image.Image:
    canvas = Image.new("RGBA", pictures[0].size, (255, 255, 255, 0))
    width, height = (round(side * edge) for edge in canvas.size)
    for picture, (x, y) in zip(pictures, centres, strict=True):
        small = picture.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
        corner = round(x * canvas.width - width / 2), round(y * canvas.height - height / 2)
        canvas.alpha_composite(small, corner)
    return canvas


def _hsv(rgb: Array) -> tuple[Array, Array, Array]:
    """Hue in degrees, saturation and value of straight colours [h w 3]."""
    high, low = rgb.max(axis=-1), rgb.min(axis=-1)
    span = high - low
    safe = np.where(span > 0, span, 1)
    red, green, blue = np.moveaxis(rgb, -1, 0)
    sixth = np.where(
        high == red,
        (green - blue) / safe,
        np.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    return (60 * sixth) % 360, span / np.where(high > 0, high, 1), high


def _rgb(hue: Array, saturation: Array, value: Array) -> Array:
    """The inverse of `_hsv`: v - v s max(0, min(k, 4 - k, 1)) with k = (n + hue / 60) mod 6, n = 5, 3, 1."""
    k = [(n + hue / 60) % 6 for n in (5, 3, 1)]
    return np.stack([value - value * saturation * np.clip(np.minimum(j, 4 - j), 0, 1) for j in k], axis=-1)
