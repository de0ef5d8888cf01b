"""The data set: which pairs are held out, its words, reading it with all that can be wrong, augmentation."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor

from danqing.core.errors import BadData
from danqing.core.images import from_pil
from danqing.data import captions
from danqing.data.augment import Augment
from danqing.data.dataset import read_imagefolder, to_unit
from danqing.data.drawing_sets import read_vocabulary, slug
from danqing.data.holdout import held_out

VOCABULARY = resources.files("danqing.data") / "vocabulary.txt"


def names() -> list[str]:
    labels, renamed = read_vocabulary(VOCABULARY)
    return [renamed.get(label, (label, ""))[0] for label in labels]


# ---- which pairs no network sees


def test_held_out_pairs_are_the_same_everywhere() -> None:
    """Published figures are about these pairs: the rule must never change."""
    held = [
        ("cat", "3d"),
        ("pig", "paper-cut"),
        ("camel", "flat"),
        ("hippopotamus", "cartoon"),
        ("fox", "blob"),
    ]
    seen = [("cat", "flat"), ("cat", "paper-cut"), ("pig", "3d"), ("camel", "3d"), ("monkey", "3d")]
    assert [held_out(*pair) for pair in held + seen] == [True] * 5 + [False] * 5


def test_one_pair_in_twenty_is_held_out_in_every_style() -> None:
    shares = [np.mean([held_out(name, style) for name in names()]) for style in captions.STYLE_WORDS]
    assert 0.045 < np.mean(shares) < 0.055
    assert min(shares) > 0.01
    assert max(shares) < 0.09


# ---- words


@pytest.mark.parametrize("style", [None, *captions.STYLE_WORDS])
def test_every_caption_names_the_thing_and_the_style(style: str | None) -> None:
    rng = random.Random(0)
    words, words_zh = captions.STYLE_WORDS.get(style, ("", ""))
    for name in names():
        said = captions.english_caption(name, style, rng)
        assert name in said
        assert words in said
        assert not re.search(r"[{}]|  |^ | $", said)
    all_said = {captions.chinese_caption("熊猫", style, rng) for _ in range(300)}
    assert all("熊猫" in one and words_zh in one and not re.search(r"[{}]", one) for one in all_said)
    assert len(all_said) >= 7


ARTICLES = {
    "a": ("cat", "house", "unicorn", "ufo", "euro banknote", "one-piece swimsuit", "2nd place medal"),
    "an": ("owl", "umbrella", "onion", "hourglass", "Orange"),
}


@pytest.mark.parametrize("article", list(ARTICLES))
def test_articles(article: str) -> None:
    for name in ARTICLES[article]:
        assert captions.article(name) == article
        said = {captions.english_caption(name, None, random.Random(k)) for k in range(60)}
        assert f"{article} {name}" in said


def test_plain_captions() -> None:
    expected = ("teapot, blue and white porcelain style", "茶壶，青花瓷风格")
    assert captions.plain_captions("teapot", "茶壶", "porcelain") == expected


def test_slugs() -> None:
    assert slug("Piñata") == "pinata"
    assert slug("woman’s hat") == slug("woman's hat") == "womans-hat"
    assert slug("flag: Åland Islands") == "flag-aland-islands"
    assert slug("  hot  dog! ") == "hot-dog"


def test_vocabulary_file(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("# a comment\n\nmonkey\n  ewe =  sheep /  绵羊 \n", "utf-8")
    assert read_vocabulary(tmp_path / "words") == (["monkey", "ewe"], {"ewe": ("sheep", "绵羊")})


def test_shipped_vocabulary() -> None:
    labels, renamed = read_vocabulary(VOCABULARY)
    assert len(labels) == len(set(labels)) == 120
    assert len({slug(name) for name in names()}) == 120
    assert all(english and chinese for english, chinese in renamed.values())


# ---- reading a folder


def write(folder: Path, pictures: dict[str, Image.Image], rows: list[dict[str, str]] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        picture.save(folder / name)
    rows = [{"file_name": name, "text": name} for name in pictures] if rows is None else rows
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def plain(size: int = 8, colour: tuple[int, ...] = (10, 20, 30, 255)) -> Image.Image:
    return Image.new("RGBA", (size, size), colour)


def test_pictures_are_read_over_white(tmp_path: Path) -> None:
    """The painter's format: what `images.from_pil` gives, rounded to bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 9, 4), np.uint8)
    picture = Image.fromarray(noise, "RGBA")
    other = Image.new("L", (9, 8), 77)
    data = read_imagefolder(write(tmp_path / "set", {"a.png": picture, "b.png": other}))
    assert data.pictures.shape == (2, 4, 8, 9)
    assert data.pictures.dtype == torch.uint8
    torch.testing.assert_close(to_unit(data.pictures[0]), from_pil(picture), rtol=0, atol=1.5 / 127.5)
    assert data.pictures[1].unique().tolist() == [77, 255]
    assert (data.pictures[0, :3, noise[..., 3] == 0] == 255).all()


def test_rows_are_chosen_together_with_their_pictures(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {f"{k}.png": plain(colour=(k, k, k, 255)) for k in range(5)})
    odd = read_imagefolder(folder).where(lambda row: int(row["text"][0]) % 2 == 1)
    assert odd.column("file_name") == ["1.png", "3.png"]
    assert odd.pictures[:, 0, 0, 0].tolist() == [1, 3]
    assert len(odd) == 2


def test_files_that_are_no_pictures_are_left_out(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "set", {name: plain(64) for name in ("a.png", "b.png", "c.png", "d.png", "e.png")}
    )
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:70])
    (folder / "c.png").write_bytes(b"<html>")
    (folder / "d.png").unlink()
    assert read_imagefolder(folder).column("file_name") == ["a.png", "e.png"]


def test_a_caption_may_hold_any_character(tmp_path: Path) -> None:
    rows = [{"file_name": "a.png", "text": "a\u2028b\x85熊猫"}, {"file_name": "a.png", "text": ""}]
    folder = write(tmp_path / "set", {"a.png": plain()}, rows)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_bytes(lines.encode())
    assert read_imagefolder(folder).column("text") == ["a\u2028b\x85熊猫", ""]


def spoil(folder: Path, text: bytes) -> None:
    (folder / "metadata.jsonl").write_bytes(text)


FAULTS = {
    "no metadata": (lambda f: (f / "metadata.jsonl").unlink(), "is missing: build the data set first"),
    "one picture": (
        lambda f: (f / "a.png").unlink(),
        "holds 1 readable pictures of 2: at least 2 are needed",
    ),
    "two sizes": (lambda f: plain(9).save(f / "a.png"), "mixes pictures of 8 x 8, 9 x 9: resize them"),
    "no json": (lambda f: spoil(f, b'{"file_name": "a.png"}\nno\n'), "line 2 is no JSON object"),
    "no name": (lambda f: spoil(f, b'{"text": "a"}\n'), "line 1 is no JSON object with a file_name"),
    "a list": (lambda f: spoil(f, b"[1]\n"), "line 1 is no JSON object"),
    "not utf-8": (lambda f: spoil(f, '{"file_name": "熊"}'.encode("gbk")), "is not UTF-8"),
}


@pytest.mark.parametrize(("fault", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_told_in_one_line(tmp_path: Path, fault: Callable[..., Any], says: str) -> None:
    folder = write(tmp_path / "set", {"a.png": plain(), "b.png": plain()})
    fault(folder)
    with pytest.raises(BadData, match=re.escape(says)) as raised:
        read_imagefolder(folder)
    assert "\n" not in str(raised.value)


# ---- augmentation


@pytest.fixture
def on_white() -> Tensor:
    pictures = torch.rand(6, 3, 24, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pictures[..., :4], pictures[..., -4:], pictures[..., :4, :], pictures[..., -4:, :] = 1, 1, 1, 1
    return pictures


def generator(seed: int = 3) -> Generator:
    return torch.Generator().manual_seed(seed)


def test_augmentation_changes_each_picture_in_range(on_white: Tensor) -> None:
    augment = Augment(turn=15, scale=0.2, move=0.1, light=0.25, tint=0.2, erase=1.0)
    before = on_white.clone()
    changed = augment(on_white, generator())
    assert torch.equal(on_white, before)
    assert changed.shape == on_white.shape
    assert -1 <= changed.min() <= changed.max() <= 1
    assert torch.equal(changed, augment(on_white, generator()))
    assert not torch.equal(changed, augment(on_white, generator(4)))
    same = augment(on_white[:1].expand(6, -1, -1, -1), generator())
    assert all(not torch.equal(same[0], other) for other in same[1:])


def test_no_augmentation_is_no_change(on_white: Tensor) -> None:
    nothing = Augment(turn=0, scale=0, move=0, light=0, tint=0, erase=0, mirror=False)
    torch.testing.assert_close(nothing(on_white, generator()), on_white, rtol=0, atol=1e-5)


def test_mirroring_alone(on_white: Tensor) -> None:
    mirror = Augment(turn=0, scale=0, move=0, light=0)(on_white, generator())
    flipped = [torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(mirror, on_white, strict=True)]
    kept = [torch.allclose(a, b, atol=1e-5) for a, b in zip(mirror, on_white, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert any(flipped)
    assert any(kept)


def test_what_comes_in_from_outside_is_white() -> None:
    moved = Augment(turn=0, scale=0, move=0.4, light=0.5, tint=0.5)(torch.ones(8, 3, 16, 16), generator())
    assert torch.equal(moved, torch.ones(8, 3, 16, 16))
