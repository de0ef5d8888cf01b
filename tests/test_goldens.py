"""Every app by the command line, on a tiny model of random weights: what it painted once, it paints still.

tests/goldens.json holds for each command its exit code, the lines it gave, and each picture's brief and info
exactly; its pixels averaged to 8x8, since other processors round otherwise. After a change of behaviour that
is meant, `python -m tests.test_goldens` writes the file anew: read its diff before you commit it.
benchmarks/goldens.py does the same on the shipped models, byte for byte.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageSequence

import danqing
from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli import progress
from tests import tiny

GOLDENS = Path(__file__).with_name("goldens.json")
SAMPLES = Path(__file__).parent.parent / "samples" / "stickers"
TOLERANCE = 2  # levels of 255. Measured: 1 with AVX-512 against no vector instructions, and with 2 threads
LEFT_OUT = ("seconds", "versions", "backend", "parent")  # of a picture's info; the parent is a hash of pixels

MODEL = "--model ../tiny --seed 1"
FAST = f"{MODEL} --fast"
GRID = f"imagine 'a cat' {FAST} -o g.png"
COMMANDS = {
    "paint": f"paint 'a cat' {MODEL} --steps 3",
    "paint-fast-style": f"paint 'a cat' {FAST} --style 立体 --native",
    "paint-count": f"paint 'a {{red|blue}} cat --chaos 40' {MODEL} --steps 2 --count 3",
    "paint-shape": f"paint 'a cat --ar 3:2 --no dog' {MODEL} --steps 2 -o cat.webp",
    "paint-ground": f"paint 'a cat' {MODEL} --steps 2 --background '#2080ff' -o cat.jpg",
    "paint-tile": f"paint 'a cat' {MODEL} --steps 2 --tile --native --background transparent",
    "paint-guided": f"paint 'a cat' {MODEL} --steps 3 --sampler heun --guidance 5 --rescale 0.5",
    "paint-taste": f"paint 'a cat --s 700 --w 800' {MODEL} --steps 2 --sampler euler_ancestral",
    "paint-variation": f"paint 'a cat' {MODEL} --steps 2 --variation 0.4 --variation-seed 3 --count 2",
    "paint-language": f"paint 'a [(fox:1.3)|[wolf:bear:0.5]] BREAK snow AND red :-0.3' {MODEL} --steps 4",
    "paint-mixed": f"paint 'a fox::2 a wolf::1 fog::-0.5' {MODEL} --steps 2",
    "paint-front": f"paint '../in.png a cat --iw 0.5' {MODEL} --steps 4",
    "imagine": f"imagine 'a {{red|green}} cat' {FAST}",
    "grid": f"{GRID} && upscale g.png 3 -o cell.png && reroll g.png -o r.png",
    "redraw": f"redraw ../in.png 'a cat' {MODEL} --steps 4 --strength 0.5",
    "redraw-clear": f"redraw ../clear.png 'a cat' {FAST} --count 2 --style paper-cut",
    "redraw-turned": f"redraw ../turned.jpg 'a cat' {FAST}",
    "inpaint-mask": f"inpaint ../in.png 'a cat' --mask ../mask.png {MODEL} --steps 3 --feather 3",
    "inpaint-where": f"inpaint ../scene.png 'a cat' --where 'the teapot' {FAST}",
    "inpaint-damage": f"inpaint ../scratched.png --damage scratches {FAST}",
    "outpaint": f"outpaint ../in.png 'a cat' --right 0.6 --top 0.2 {FAST}",
    "zoom": f"{GRID} && zoom g.png --cell 2 --by 2 {FAST}",
    "pan": f"pan ../in.png left 'a cat' --by 0.3 {FAST}",
    "vary": f"{GRID} && vary g.png 2 --how subtle --count 2 {MODEL} --steps 4",
    "remix": f"remix ../in.png 'a dog' --count 1 {FAST}",
    "blend": f"blend ../in.png ../clear.png --prompt 'a fox' --weights 2,1 --count 2 {MODEL} --steps 3",
    "stylize-learned": f"stylize ../in.png 'a cat' --style 剪纸 {FAST}",
    "stylize-pack": f"stylize ../in.png 'a cat' --style anime {FAST}",
    "stylize-like": f"stylize ../in.png 'a cat' --like ../teapot.png {FAST}",
    "upscale": f"upscale ../in.png {MODEL}",
    "upscale-creative": f"upscale ../in.png --creative --prompt 'a cat' {MODEL} --steps 4",
    "edit-fast": f"edit ../in.png 'a cat' --fast --steps 3 {MODEL}",
    "edit": f"edit ../in.png 'a cat' --etas 0.2,0.6 --effort 0.1 --steps 2 {MODEL}",
    "animate": f"animate '0: a cat | 1: a dog' --frames 2 --zoom 1.1 --angle=-5 {FAST} -o film.gif",
    "animate-start": f"animate dog --start ../in.png --frames 2 --border wrap --translation-x 3 {FAST} -o f",
    "learn": "learn zed ../photos --class cat --steps 2 --prior 1 --rank 2 --model ../tiny"
    f" && paint 'a <zed:0.8>' {FAST}",
    "lineage": "lineage 'a cat' --models ../tiny --seed 1 --singles each -o sheet.png",
    "describe": "describe ../teapot.png --model ../tiny",
    "classify": "classify ../teapot.png --top 1",
    "classify-labels": "classify ../teapot.png --labels teapot,tiger,train --top 1",
    "search": "search .. 'a teapot' --top 1",
    "score": "score ../teapot.png ../tiger.png 'a tiger'",
    "show": f"paint 'a cat' {MODEL} --steps 2 -o a.png && show a.png && repaint a.png b.png",
    "show-app": f"redraw ../in.png 'a cat' {FAST} -o a.png && show a.png && repaint a.png b.png",
    "no-mask": f"inpaint ../in.png 'a cat' {MODEL}",
    "wrong-mask": f"inpaint ../in.png 'a cat' --mask ../teapot.png {MODEL}",
    "no-style": f"paint 'a cat' --style papercut {MODEL}",
    "off-grid": f"paint 'a cat' --width 50 {MODEL}",
    "no-parameter": f"paint 'a cat --stylise 50' {MODEL}",
    "no-picture": f"redraw none.png 'a cat' {MODEL}",
    "no-adapter": f"paint 'a cat' --adapter none {MODEL}",
    "no-model": "paint 'a cat' --model stikers",
}

Told = dict[str, Any]


def shelf(folder: Path) -> None:
    """A tiny model and pictures to start from."""
    tiny.model_folder(folder / "tiny")
    drawn(64, 64, "red").save(folder / "in.png")
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).rectangle((10, 10, 40, 40), fill=255)
    mask.save(folder / "mask.png")
    clear = drawn(64, 64, "blue").convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(folder / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    drawn(64, 48, "green").save(folder / "turned.jpg", exif=exif)
    scratched = drawn(64, 64, "red")
    ImageDraw.Draw(scratched).line((20, 3, 30, 60), fill="white")
    scratched.save(folder / "scratched.png")
    (folder / "photos").mkdir()
    for number, colour in enumerate(("red", "lime")):
        drawn(64, 64, colour).save(folder / "photos" / f"{number}.png")
    scene = Image.new("RGB", (256, 128), "white")
    for number, name in enumerate(("tiger", "teapot")):
        shutil.copy(SAMPLES / "3d" / f"{name}.png", folder / f"{name}.png")
        with Image.open(folder / f"{name}.png") as one:
            cut = one.convert("RGBA").resize((120, 120))
            scene.paste(cut, (4 + 128 * number, 4), cut)
    scene.save(folder / "scene.png")


def drawn(width: int, height: int, colour: str) -> Image.Image:
    """A disc before a sky that darkens."""
    sky = np.linspace(90, 240, height, dtype=np.uint8)[:, None].repeat(width, 1)
    image = Image.fromarray(np.stack([sky // 2, sky - 40, sky], axis=2))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=colour)
    return image


def told(commands: str, folder: Path) -> Told:
    """Run commands one after the other in `folder`, and tell all that came of it."""
    out, err = StringIO(), StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err):
        codes = [done(shlex.split(command)) for command in commands.split(" && ")]
    found = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg", ".webp", ".gif"))
    found = [path for path in found if "adapters" not in path.parts]  # no sheets of what is being learned
    return {
        "codes": codes,
        "out": plain(out.getvalue()),
        "err": plain(err.getvalue()),
        "pictures": {path.relative_to(folder).as_posix(): seen(path) for path in found},
    }


def done(argv: list[str]) -> int:
    """Run a command of danqing, or `repaint FILE OUT`: the one that `danqing show FILE` tells."""
    if argv[0] != "repaint":
        return cli.run(argv)
    with redirect_stdout(StringIO()) as shown:
        cli.run(["show", argv[1]])
    return cli.run([*shlex.split(shown.getvalue().splitlines()[-1])[1:], "-o", argv[2]])


def plain(text: str) -> list[str]:
    """Lines without versions, times and other numbers with a point, which processors round otherwise."""
    lines = (line.rstrip() for line in text.splitlines())
    kept = [line for line in lines if not line.startswith("seconds") and " of memory and " not in line]
    return [re.sub(r"-?\d*\.\d[\d.]*\S*", "_", line) for line in kept]


def seen(path: Path) -> Told:
    """What a picture holds: mode and size, pixels of each frame, brief and info."""
    with Image.open(path) as image:
        head = f"{image.mode} {image.width}x{image.height}"
        frames = [averaged(frame.convert("RGBA")) for frame in ImageSequence.Iterator(image)]
    if path.suffix == ".gif" or path.name == "sheet.png":  # with times on it, and no brief
        return {"head": head, "pixels": frames if path.suffix == ".gif" else []}
    picture = danqing.Picture.open(path)
    info = picture.info.model_dump(mode="json")
    return {
        "head": head,
        "pixels": frames,
        "brief": picture.brief.model_dump(mode="json"),
        "info": {key: value for key, value in info.items() if key not in LEFT_OUT},
    }


def averaged(image: Image.Image) -> str:
    """The means of 8x8 parts, channel by channel, two hexadecimal digits each."""
    return b"".join(band.resize((8, 8), Image.Resampling.BOX).tobytes() for band in image.split()).hex()


def settle(patch: pytest.MonkeyPatch) -> None:
    """No GPU, a fixed number for every seed that nobody gave, and a page of one width."""
    patch.setenv("DANQING_DEVICE", "cpu")
    patch.setenv("COLUMNS", "110")
    patch.setattr(secrets, "randbelow", lambda below: 7 % below)
    patch.setattr(progress, "LINE_SECONDS", math.inf)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("goldens")
    shelf(folder)
    return folder


@pytest.fixture(scope="module")
def goldens() -> Told:
    found: Told = json.loads(GOLDENS.read_text("utf-8"))
    return found


@pytest.fixture
def steady() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        settle(patch)
        yield


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("name", COMMANDS)
def test_what_it_painted_once_it_paints_still(name: str, place: Path, goldens: Told) -> None:
    shutil.rmtree(place / name, ignore_errors=True)
    (place / name).mkdir()
    new, old = json.loads(json.dumps(told(COMMANDS[name], place / name))), goldens[name]
    painted = [pixels_of(record) for record in (old, new)]
    assert new == old
    for file, frames in painted[0].items():
        for one, other in zip(frames, painted[1][file], strict=True):
            gap = int(abs(np.subtract(list(bytes.fromhex(one)), list(bytes.fromhex(other)))).max())
            assert gap <= TOLERANCE, file


def pixels_of(record: Told) -> dict[str, list[str]]:
    """Take the averaged pixels out of a record: they are compared within a tolerance."""
    return {file: picture.pop("pixels") for file, picture in record["pictures"].items()}


def test_the_goldens_are_of_these_commands(goldens: Told) -> None:
    assert set(goldens) == set(COMMANDS)


def record() -> None:
    """Write the goldens anew."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        settle(patch)
        shelf(Path(folder))
        found = {}
        for name, commands in COMMANDS.items():
            (Path(folder) / name).mkdir()
            found[name] = told(commands, Path(folder) / name)
    lines = [f"{json.dumps(name)}: {json.dumps(one, ensure_ascii=False)}" for name, one in found.items()]
    GOLDENS.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    record()
