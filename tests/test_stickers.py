"""Building the sticker data set: rendered styles, drawings, fetching, and the whole on hand-made packages."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy import ndarray
from PIL import Image

from danqing.core.errors import BadData
from danqing.data.dataset import read_imagefolder
from danqing.data.drawing_sets import EMOJIBASE, SOURCES, Concept, Drawings, slug, unpack_package
from danqing.data.holdout import held_out
from danqing.data.stickers import StickerOptions, build, concepts_of
from danqing.data.styles import FILTERS
from danqing.data.synonyms import WORDNET, WordNet, read_synonyms, synonyms
from danqing.data.vocabulary import vocabulary

# ---- styles


def drawing(side: int) -> ndarray:
    """A green disc with a dark eye on transparent ground, smooth at the rim; RGBA float [side side 4]."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    disc = np.clip((0.4 - np.hypot(x, y)) * 64 + 0.5, 0, 1)
    eye = np.clip((0.12 - np.hypot(x - 0.1, y)) * 64 + 0.5, 0, 1)[..., None]
    colour = (1 - eye) * np.array([0.3, 0.75, 0.25]) + eye * 0.05
    return np.concatenate([colour, disc[..., None]], axis=-1).astype(np.float32)


def over_white(picture: ndarray) -> ndarray:
    return picture[..., :3] * picture[..., 3:] + 1 - picture[..., 3:]


@pytest.mark.parametrize("name", list(FILTERS))
def test_styles_are_pictures_and_repeat(name: str) -> None:
    styled = FILTERS[name](drawing(128), 7)
    assert styled.shape == (128, 128, 4)
    assert styled.dtype == np.float32
    assert 0 <= styled.min() <= styled.max() <= 1
    assert np.array_equal(styled, FILTERS[name](drawing(128), 7))
    assert styled[:4].max(axis=(0, 1))[3] < 0.02  # the ground stays transparent
    assert 0.1 < styled[..., 3].mean() < 0.6


@pytest.mark.parametrize("name", list(FILTERS))
def test_styles_look_the_same_at_any_size(name: str) -> None:
    """Measured: 0.0012 paper-cut, 0.0025 ink-wash, 0.0076 porcelain."""
    small, large = (over_white(FILTERS[name](drawing(side), 7)) for side in (128, 256))
    difference = np.abs(small - large.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))).mean()
    assert difference < 0.02


def test_styles_have_their_colours() -> None:
    cut, china, ink = (FILTERS[name](drawing(128), 7) for name in ("paper-cut", "porcelain", "ink-wash"))
    assert cut[..., 0].min() > 3 * cut[..., 1].max()  # one red sheet
    assert cut[64, 77, 3] < 0.1  # the dark eye is cut out
    assert (china[..., 2] >= china[..., 0]).all()  # white to blue
    assert np.ptp(ink[..., :3].mean(axis=(0, 1))) < 0.05  # grey
    assert not np.array_equal(ink, FILTERS["ink-wash"](drawing(128), 8))


# ---- drawings and the whole data set

EMOJI = [  # label, Chinese, code, group
    ("cat", "猫", "1F408", 3),
    ("locomotive", "机车", "1F682", 5),
    ("train", "列车", "1F686", 5),
    ("abacus", "算盘", "1F9EE", 7),
    ("grinning face", "笑脸", "1F600", 0),
    ("one o’clock", "一点", "1F550", 5),
]
INDEX = """  1 A licence stands at the head of the files.
abacus n 1 1 @ 1 0 00000005
cat n 2 1 @ 2 2 00000001 00000002
train n 1 1 @ 1 0 00000005
"""
NOUNS = """  1 A licence stands at the head of the files.
00000001 18 n 02 cat 0 gossip 0 001 @ 00000009 n 0000 | a spiteful woman; "what a cat she is"
00000002 05 n 02 cat 0 house_cat 0 003 @ 00000009 n 0000 ~ 00000003 n 0000 ~ 00000004 n 0000 | feline mammal
00000003 05 n 01 kitten 0 001 @ 00000002 n 0000 | young domestic cat
00000004 05 n 07 Felis_catus 0 tabby_cat 0 rex3 0 a_b_c_d 0 a 0 b 0 train 0 001 @ 00000002 n 0000 | kinds
00000005 06 n 02 device 0 kit 0 000 | shared by two things
"""
SQUARE = '<path fill="#c83214" d="M4 4h24v24H4z"/><path fill="#111" d="M10 10h4v4h-4z"/>'


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def folder_of(package: str, cache: Path) -> Path:
    return cache / re.sub(r"[@/]+", "_", package).strip("_")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hand-made packages: every vector set draws a square, the bitmap set a wider picture."""
    cache = tmp_path_factory.mktemp("packages")
    for language, column in (("en", 0), ("zh", 1)):
        rows = [{"label": e[column], "hexcode": e[2], "group": e[3], "tags": ["tag"]} for e in EMOJI]
        rows.append({"label": "component", "hexcode": "1F3FB"})  # without a group
        write_json(folder_of(EMOJIBASE, cache) / language / "data.json", rows)
    for source in SOURCES:
        folder = folder_of(source.package, cache)
        if source.style == "3d":
            (folder / "assets").mkdir(parents=True)
            Image.new("RGBA", (40, 40), (0, 0, 255, 128)).save(
                folder / "assets" / "1f408.webp", lossless=True
            )
            Image.new("RGBA", (40, 40), (0, 255, 0, 255)).save(folder / "assets" / "1f682-fe0f.webp")
        else:
            icons = {slug(e[0]): {"body": SQUARE} for e in EMOJI}
            if source.style == "blob":
                del icons["cat"]
            write_json(folder / "icons.json", {"icons": icons, "width": 32, "height": 32})
    words = folder_of(WORDNET, cache) / "dict"
    words.mkdir(parents=True)
    (words / "index.noun").write_text(INDEX)
    (words / "data.noun").write_text(NOUNS)
    return cache


def concept(label: str = "cat", code: str = "1F408") -> Concept:
    return Concept(label, "猫", label, code, (), (), 3)


def test_vector_drawings(tmp_path: Path) -> None:
    icons = {
        "cat": {"body": SQUARE},
        "tall": {"body": '<path fill="red" d="M0 0h8v32H0z"/>', "width": 8},
        "moved": {"body": '<path fill="red" d="M100 0h32v32h-32z"/>', "left": 100},
    }
    write_json(tmp_path / "icons.json", {"icons": icons, "width": 32, "height": 32})
    drawings = Drawings(tmp_path)
    assert drawings.render(concept("dog"), 32) is None
    cat = np.asarray(drawings.render(concept(), 64))
    assert cat.shape == (64, 64, 4)
    assert cat[0, 0, 3] == 0
    assert cat[40, 40].tolist() == [200, 50, 20, 255]
    tall = np.asarray(drawings.render(concept("tall"), 32))[..., 3]
    assert (tall[:, 12:20] == 255).all()  # centred, not stretched
    assert tall[:, :12].max() == tall[:, 20:].max() == 0
    assert (np.asarray(drawings.render(concept("moved"), 32))[..., 3] == 255).all()


def test_bitmap_drawings(cache: Path) -> None:
    drawings = Drawings(folder_of(SOURCES[0].package, cache))
    assert drawings.render(concept("abacus", "1F9EE"), 16) is None
    assert drawings.render(concept("train", "1F682"), 16).size == (16, 16)
    cat = np.asarray(drawings.render(concept(), 16))
    assert cat[8, 8].tolist() == [0, 0, 255, 128]


def test_things_and_their_names(cache: Path) -> None:
    known = concepts_of(folder_of(EMOJIBASE, cache), known_only=True)
    assert [(c.label, c.name, c.name_zh) for c in known] == [
        ("cat", "cat", "猫"),
        ("locomotive", "train", "火车"),
    ]
    every = concepts_of(folder_of(EMOJIBASE, cache), known_only=False)
    assert [c.label for c in every] == [
        "cat",
        "locomotive",
        "abacus",
    ]  # the other train would be a second one


def test_things_of_a_list_of_ones_own(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# mine\nabacus = counting frame / 算盘\ncat\n", "utf-8")
    mine = concepts_of(folder_of(EMOJIBASE, cache), known_only=True, vocabulary=tmp_path / "words.txt")
    assert [(c.label, c.name) for c in mine] == [("cat", "cat"), ("abacus", "counting frame")]


def test_other_words_for_things(cache: Path) -> None:
    """The commonest sense that is an animal; no Latin, no number, no phrase, no other thing's name."""
    every = concepts_of(folder_of(EMOJIBASE, cache), known_only=False)
    said = synonyms(every, WordNet(folder_of(WORDNET, cache)))
    assert said["cat"][0][-5:] == ("house cat", "kitten", "tabby cat", "a", "b")
    assert "小猫" in said["cat"][1]
    assert said["abacus"] == ((), ())  # its words are the train's too


def test_our_own_synonyms_are_for_known_things() -> None:
    own = read_synonyms(resources.files("danqing.data") / "synonyms.txt")
    assert set(own) == set(vocabulary())
    told = [word for sides in own.values() for side in sides for word in side]
    assert len(set(told)) == len(told)  # none for two things
    assert not set(told) & {*vocabulary(), *vocabulary().values()}


def test_the_whole_data_set(cache: Path, tmp_path: Path) -> None:
    reports: list[Any] = []
    count = build(tmp_path / "set", cache, StickerOptions(size=32), reports.append)
    data = read_imagefolder(tmp_path / "set")
    assert [(report.step, report.of) for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert count == len(data) == 3 * 9 - 1 - 1  # no abacus in 3d, no cat among blobs
    assert data.pictures.shape[1:] == (4, 32, 32)
    assert Counter(data.column("concept")) == {"cat": 8, "train": 9, "abacus": 8}
    assert len(set(data.column("file_name"))) == count
    assert all(bool(row["held_out"]) == held_out(row["concept"], row["style"]) for row in data.rows)
    styles = [row["style"] for row in data.rows if row["concept"] == "train"]
    drawn = ["3d", "flat", "silhouette", "cartoon"]
    assert styles == [*drawn, *FILTERS, "blob", "twemoji"]
    china = next(row for row in data.rows if row["file_name"] == "porcelain/train.png")
    assert (china["text"], china["text_zh"]) == ("train, blue and white porcelain style", "火车，青花瓷风格")
    assert china["synonyms"] == ["locomotive", "steam train", "railway"]
    assert china["synonyms_zh"][0] == "列车"
    assert (china["licence"], china["source"]) == ("Apache-2.0", "@iconify-json/noto@1.2.9")


def test_building_repeats_exactly(cache: Path, tmp_path: Path) -> None:
    options = StickerOptions(size=16, known_only=True, styles=("3d", "ink-wash", "paper-cut"))
    for name in ("one", "two"):
        assert build(tmp_path / name, cache, options) == 6
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 7
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_a_style_that_does_not_exist(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="unknown style 'paper-cup': did you mean 'paper-cut'"):
        build(tmp_path, cache, StickerOptions(styles=("paper-cup",)))


# ---- fetching

NPM = """#!{python}
import io, pathlib, sys, tarfile
assert sys.argv[1:3] == ["pack", "@some/set@1.0.0"], sys.argv
folder = pathlib.Path(sys.argv[sys.argv.index("--pack-destination") + 1])
{body}
"""
PACKS = """
with tarfile.open(folder / "some-set-1.0.0.tgz", "w:gz") as tar:
    info = tarfile.TarInfo("package/icons.json")
    info.size = 2
    tar.addfile(info, io.BytesIO(b"{}"))
"""


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    folder.mkdir()
    (folder / "npm").write_text(NPM.format(python=sys.executable, body=body))
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_package_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", monkeypatch, PACKS)
    folder = unpack_package("@some/set@1.0.0", tmp_path / "cache")
    assert (folder / "icons.json").read_text() == "{}"
    assert list((tmp_path / "cache").iterdir()) == [folder]
    monkeypatch.setenv("PATH", "")
    assert unpack_package("@some/set@1.0.0", tmp_path / "cache") == folder


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "print('npm error 404', file=sys.stderr); sys.exit(1)",
            r"could not fetch '@some/set@1.0.0' \(npm error 404\)",
        ),
        ("", r"could not fetch '@some/set@1.0.0' \(it ended with 0\)"),
        ("(folder / 'a.tgz').write_bytes(b'half')", "cannot unpack '@some/set@1.0.0'"),
    ],
    ids=["refused", "nothing", "damaged"],
)
def test_a_failed_fetch_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, says: str
) -> None:
    fake_npm(tmp_path / "bin", monkeypatch, body)
    with pytest.raises(BadData, match=says):
        unpack_package("@some/set@1.0.0", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadData, match="npm is not installed: it is needed once"):
        unpack_package("@some/set@1.0.0", tmp_path / "cache")
