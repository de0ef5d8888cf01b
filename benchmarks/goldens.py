"""Goldens: what the command line painted, wrote and said before a change, and whether it still does.

    python goldens.py record FOLDER      # before: goldens.json, and beside it the pictures themselves
    python goldens.py compare FOLDER     # after: a table of what differs; exit code 1 if anything does
    python goldens.py compare FOLDER --only edit,paint-03 --keep NEW     # some cases, keeping their pictures
    python goldens.py record FOLDER --only edit-03     # anew, after a change that is meant

The commands stand in goldens.txt, a case a line. Each case runs within this process, in a new folder that
holds the inputs of section [inputs], and is recorded as what comes of it: its exit code, what it said on
stdout and stderr, each file it wrote. Of a picture that is a hash of its pixels, frame by frame, and the
metadata. So two programs that agree here paint the same bytes from the same words, refuse the same requests
with the same line, and write the same files under the same names.

All that may differ is fixed or left out: one thread on the CPU, a clock that stands still, one number for
every seed that nobody gave, no versions. `compare` hands the recorded inputs, painted by the old program, to
the new one: files of yesterday must open today. It touches danqing only where it promises to stay as it is:
the command line, `danqing.paint` and `Picture.open`.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import io
import json
import os
import re
import secrets
import shlex
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageSequence

TABLE = Path(__file__).with_suffix(".txt")
INPUTS = "inputs"
FIXED = {
    "OMP_NUM_THREADS": "1",
    "DANQING_DEVICE": "cpu",
    "COLUMNS": "120",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "HF_HUB_OFFLINE": "1",
}
LEFT_OUT = ("seconds", "versions")  # of a picture's metadata


class Case(NamedTuple):
    """A name such as paint-03, and commands to run one after the other."""

    name: str
    commands: tuple[str, ...]


def cases() -> list[Case]:
    """The table of commands; those of the inputs are one case."""
    found: list[Case] = []
    inputs: list[str] = []
    section, number = "", 0
    for line in TABLE.read_text("utf-8").splitlines():
        if line.startswith("["):
            section, number = line.strip("[]"), 0
        elif line and not line.startswith("#") and section == INPUTS:
            inputs.append(line)
        elif line and not line.startswith("#"):
            number += 1
            found.append(Case(f"{section}-{number:02d}", tuple(line.split(" && "))))
    return [Case(INPUTS, tuple(inputs)), *found]


# ---- running


def run(case: Case, folder: Path) -> dict[str, Any]:
    """Run a case in `folder`, and tell all that came of it."""
    before = {path: path.read_bytes() for path in files(folder)}
    told = []
    with chdir(folder):
        for command in case.commands:
            told.append({"command": command, **said(command)})
    after = [path for path in files(folder) if before.get(path) != path.read_bytes()]
    return {"told": told, "files": {path.relative_to(folder).as_posix(): contents(path) for path in after}}


def said(command: str) -> dict[str, Any]:
    """Exit code, stdout and stderr of one command."""
    os.environ.update(FIXED)  # the command line may leave its --device there
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code: object = act(shlex.split(command))
        except SystemExit as error:
            code = f"exit {error.code}"
        except Exception as error:  # the program should not, and if it does it is a fact like others
            code = f"{type(error).__name__}: {error}"
    return {"code": code, "out": plain(out.getvalue()), "err": plain(err.getvalue())}


def act(argv: list[str]) -> int:
    """Do what a line of the table says; see its head for the words that are no commands of danqing."""
    import danqing
    from danqing.interfaces.cli.main import run as command_line

    if argv[:1] == ["repaint"]:
        shown = io.StringIO()
        with redirect_stdout(shown):
            command_line(["show", argv[1]])
        return command_line([*shlex.split(shown.getvalue().splitlines()[-1])[1:], "-o", argv[2]])
    if argv[:1] == ["again"]:
        return saved(danqing.paint(danqing.Picture.open(argv[1]).brief))
    if argv[:1] == ["python"]:
        fields = dict(part.split("=", 1) for part in argv[2:])
        return saved(danqing.paint(argv[1], **{name: value_of(text) for name, text in fields.items()}))
    return command_line(argv)


def value_of(text: str) -> Any:
    """A Python value, or the text itself where the shell took its quotes away."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def saved(pictures: Sequence[Any]) -> int:
    """Save pictures that were painted from Python."""
    for number, picture in enumerate(pictures):
        picture.save(f"python-{number}.png")
    return 0


def plain(text: str) -> list[str]:
    """Lines without times and versions."""
    text = re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", text)
    text = re.sub(r"(?<![\w.])\d+\.\d+ s\b", "_ s", text)
    lines = [line.rstrip() for line in text.splitlines() if not re.match(r"\s*seconds\b", line)]
    return [re.sub(r" \d+(\.\d+)+\S*", " _", line) if "made by" in line else line for line in lines]


# ---- what a file holds


def files(folder: Path) -> list[Path]:
    """All files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def contents(path: Path) -> Any:
    """What a file holds, without what may differ from run to run."""
    suffix = path.suffix.lower()
    if suffix in (".png", ".webp", ".jpg", ".gif", ".tiff"):
        return picture(path)
    if suffix == ".safetensors":
        return weights(path)
    if suffix == ".csv":
        rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
        return [{key: value for key, value in row.items() if "second" not in (key or "")} for row in rows]
    if suffix in (".txt", ".json", ".toml"):
        lines = path.read_text("utf-8").splitlines()
        return [re.sub(r'"seconds": [\d.e-]+', '"seconds": 0', line) for line in lines]
    return "a file"


def picture(path: Path) -> Any:
    """Each frame's mode, size and hash, and the metadata."""
    try:
        with Image.open(path) as image:
            metadata = told_inside(image)
            frames = [hashed(frame) for frame in ImageSequence.Iterator(image)]
    except (OSError, SyntaxError) as error:
        return f"no picture: {type(error).__name__}"
    return {"frames": frames, **metadata}


def hashed(image: Image.Image) -> str:
    """Mode, size, and a hash of both with the pixels."""
    if image.mode == "P":
        image = image.convert("RGBA")
    head = f"{image.mode} {image.width}x{image.height}"
    return f"{head} {hashlib.sha256(head.encode() + image.tobytes()).hexdigest()}"


def told_inside(image: Image.Image) -> dict[str, Any]:
    """Our JSON and A1111's text, read from the file as any other program would."""
    texts = dict(getattr(image, "text", {}))
    exif = image.getexif().get_ifd(0x8769)
    ours = texts.get("danqing") or exif.get(0x927C, b"").removeprefix(b"danqing\0").decode() or None
    other = texts.get("parameters") or exif.get(0x9286, b"").removeprefix(b"UNICODE\0").decode("utf-16-be")
    if ours is None:
        return {}
    record = json.loads(ours)
    info = {key: value for key, value in record["info"].items() if key not in LEFT_OUT}
    return {**record, "info": info, "a1111": re.sub(r"Version: danqing \S+", "Version: _", other)}


def weights(path: Path) -> dict[str, Any]:
    """Names, shapes and a hash of learned tensors, and the metadata."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        metadata = dict(file.metadata() or {})
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode() + tensor.tobytes())
    metadata.pop("versions", None)
    return {"tensors": len(tensors), "sha256": digest.hexdigest(), "metadata": metadata}


# ---- inputs that nobody has to paint


def draw_inputs(folder: Path) -> None:
    """Pictures, masks and texts to start from: small, and the same on every machine."""
    photo(96, 80).save(folder / "photo.png")
    spot((96, 80), (20, 15, 70, 60)).save(folder / "mask.png")
    spot((128, 128), (40, 40, 100, 100)).save(folder / "spot.png")
    spot((512, 512), (160, 160, 400, 400)).save(folder / "large.png")
    Image.new("L", (128, 128)).save(folder / "empty.png")
    photo(90, 60).convert("CMYK").save(folder / "cmyk.tiff")
    photo(60, 90).quantize(16).save(folder / "palette.gif")
    photo(70, 50).convert("L").save(folder / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(90, 60).save(folder / "turned.jpg", exif=exif)
    damaged(folder)
    (folder / "photos").mkdir()
    for number, colour in enumerate(("red", "green", "blue"), start=1):
        photo(64, 64, colour).save(folder / "photos" / f"{number}.png")
    (folder / "broken.png").write_bytes((folder / "photo.png").read_bytes()[:300])
    (folder / "note.txt").write_text("no picture\n", "utf-8")
    texts(folder)


def photo(width: int, height: int, colour: str = "red") -> Image.Image:
    """A ball before a sky that darkens, with no metadata."""
    image = Image.new("RGB", (width, height))
    lines = np.linspace(90, 240, height, dtype=np.uint8)[:, None].repeat(width, 1)
    image = Image.fromarray(np.stack([lines // 2, lines - 40, lines], axis=2))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=colour)
    return image


def spot(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """A mask: white in the box."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask


def damaged(folder: Path) -> None:
    """A drawing with scratches, and one with a hole."""
    scratched, holed = photo(128, 128), Image.new("RGBA", (128, 128))
    pen = ImageDraw.Draw(scratched)
    for x in (20, 64, 90):
        pen.line((x, 5, x + 25, 120), fill="white", width=1)
    scratched.save(folder / "scratched.png")
    pen = ImageDraw.Draw(holed)
    pen.ellipse((20, 20, 108, 108), fill="red")
    pen.ellipse((50, 50, 75, 75), fill=(0, 0, 0, 0))
    holed.save(folder / "holed.png")


def texts(folder: Path) -> None:
    """A style of one's own, and a settings file for films."""
    (folder / "styles").mkdir()
    pack = {
        "title": "Mine",
        "title_zh": "我的",
        "words": "in thick red lines",
        "words_zh": "粗红线",
        "negative": "blue",
    }
    lines = [f'{name} = "{value}"' for name, value in pack.items()]
    lines += ["strength = 0.8", "steps = 6", 'adapter = "zed"']
    (folder / "styles" / "mine.toml").write_text("\n".join(lines) + "\n", "utf-8")
    told = {"text_prompts": {"0": ["a cat:2", "fog:-1"]}, "eta": 0.9, "max_frames": 2, "steps": 4}
    (folder / "disco.txt").write_text(json.dumps(told), "utf-8")


def finish_inputs(folder: Path) -> None:
    """What is made from painted inputs: a name with a space, and a scene of two."""
    shutil.copy(folder / "cat.png", folder / "my cat.png")
    pair = Image.new("RGB", (256, 128), "white")
    for number, name in enumerate(("cat.png", "teapot.webp")):
        with Image.open(folder / name) as one:
            pair.paste(one.convert("RGB"), (number * 128, 0))
    pair.save(folder / "pair.png")
    for path in (folder / "adapters").iterdir():
        if path.is_dir():
            shutil.rmtree(path)  # checkpoints and sheets of the learning: recorded, and in no case's way


# ---- recording and comparing


def steady() -> None:
    """Fix what may differ: threads, the clock, seeds that nobody gave, where a warning came from."""
    os.environ.update(FIXED)
    time.perf_counter = lambda: 0.0
    secrets.randbelow = lambda exclusive_upper_bound: 7 % exclusive_upper_bound
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    import torch

    torch.set_num_threads(1)


Record = dict[str, Any]


def recorded(into: Path, inputs: Path | None, chosen: Callable[[str], bool]) -> Record:
    """Run the chosen cases in folders of `into`; inputs: those to start from, or None to use their own."""
    found: Record = {}
    begun = time.monotonic()
    for case in cases():
        own = case.name == INPUTS
        if not chosen(case.name) and not (own and inputs is None):
            continue
        folder = into / case.name
        if own:
            folder.mkdir(parents=True)
            draw_inputs(folder)
        else:
            shutil.copytree(inputs or into / INPUTS, folder)
        known = {path.relative_to(folder): path.read_bytes() for path in files(folder)}
        found[case.name] = run(case, folder)
        if own:
            finish_inputs(folder)
        else:
            tidied(folder, known)
        print(f"{time.monotonic() - begun:6.0f} s  {case.name}: {case.commands[0][:80]}", flush=True)
    return found


def tidied(folder: Path, known: dict[Path, bytes]) -> None:
    """Leave only what the case has made."""
    for path in files(folder):
        if known.get(path.relative_to(folder)) == path.read_bytes():
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """What differs between two records, a line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{where}[{number}]")
    elif old != new:
        yield f"{where}: {shortened(old)} -> {shortened(new)}"


def shortened(value: Any, most: int = 160) -> str:
    """A value in a line, with hashes cut."""
    text = re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}\b", r"\1", json.dumps(value, ensure_ascii=False))
    return "nothing" if value is None else text if len(text) <= most else f"{text[:most]}..."


def apart(old: Path, new: Path) -> str:
    """How far two pictures are apart, of 255."""
    try:
        one, other = (np.asarray(Image.open(path).convert("RGBA"), dtype=int) for path in (old, new))
    except OSError:
        return ""
    if one.shape != other.shape:
        return f"sizes {one.shape[1::-1]} -> {other.shape[1::-1]}"
    gap = abs(one - other)
    return f"pixels differ by {gap.max()} at most, {gap.mean():.3f} in the mean"


def report(old: Record, new: Record, folder: Path, fresh: Path) -> int:
    """Print what differs; the number of cases that do."""
    differing = 0
    for name in new:
        lines = list(differences(old.get(name), new[name]))
        if not lines:
            continue
        differing += 1
        told = (old.get(name) or new[name])["told"]
        print(f"\n{name}: danqing {' && '.join(each['command'] for each in told)[:200]}")
        for line in lines:
            print(f"    {line}")
        for file in new[name]["files"]:
            if (folder / name / file).exists() and any(f"files.{file}.frames" in line for line in lines):
                print(f"    {file}: {apart(folder / name / file, fresh / name / file)}")
    print(f"\n{len(new)} cases, {differing} differ")
    return differing


def record(folder: Path, chosen: Callable[[str], bool]) -> None:
    """Record all cases into a new folder, or some anew into one that has been recorded."""
    kept = folder / "goldens.json"
    old: Record = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    if not old:
        folder.mkdir(parents=True)  # which must be new
        chosen = chooser("")
    for case in cases():
        if old and chosen(case.name):
            shutil.rmtree(folder / case.name, ignore_errors=True)
    told = {**old, **recorded(folder, folder / INPUTS if old else None, chosen)}
    kept.write_text(json.dumps(told, ensure_ascii=False, indent=1), "utf-8")


def chooser(only: str) -> Callable[[str], bool]:
    """Whether a case is among those that begin as one of some names between commas."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    return lambda case: not names or any(case.startswith(name) for name in names)


def main() -> int:
    """Record, or compare with what was recorded."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("what", choices=("record", "compare"))
    asked.add_argument("folder", type=Path)
    asked.add_argument("--only", default="", help="cases that begin so, such as paint,edit-03")
    asked.add_argument("--keep", type=Path, help="keep the new pictures in this folder, which must be new")
    args = asked.parse_args()
    folder = args.folder.resolve()
    steady()
    import danqing

    print(f"painting with {Path(danqing.__file__).parent}", flush=True)
    if args.what == "record":
        record(folder, chooser(args.only))
        return 0
    old = json.loads((folder / "goldens.json").read_text("utf-8"))
    with tempfile.TemporaryDirectory() as place:
        fresh = Path(place) if args.keep is None else args.keep.resolve()
        new = recorded(fresh, folder / INPUTS, chooser(args.only))
        return 1 if report(old, json.loads(json.dumps(new)), folder, fresh) else 0


if __name__ == "__main__":
    sys.exit(main())
