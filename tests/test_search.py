"""Search and score: who comes first, what is told of files that are no pictures, and what is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from danqing.apps._search import search_by_picture, search_by_words
from danqing.apps._zero_shot import open_zero_shot, pixels_on_white
from danqing.core.errors import BadBrief, BadPicture
from danqing.core.image_ref import ImageRef
from danqing.families import open_clip_scorer
from danqing.interfaces.cli import main as cli

SAMPLES = Path(__file__).parent.parent / "samples" / "stickers"


class Redness:
    """Every text asks for red."""

    def score_function(self, texts: list[str]) -> Callable[..., Any]:
        return lambda pixels: (pixels[:, :1] - pixels[:, 1:2]).mean(dim=(2, 3)).expand(-1, len(texts))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    for name, colour in (("a", "#400"), ("b", "#800"), ("deeper/c", "#f00"), ("d", "#800")):
        Image.new("RGB", (40, 20), colour).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


def test_the_best_come_first_and_equals_by_name() -> None:
    found = search_by_words([ImageRef("in")], Redness(), "red")
    assert [hit.file.stem for hit in found.hits] == ["c", "b", "d", "a"]
    assert [each.file.name for each in found.unreadable] == ["broken.jpg"]
    assert [hit.file.stem for hit in search_by_words([ImageRef("in")], Redness(), "red", top=2).hits] == [
        "c",
        "b",
    ]
    assert found.sheet().size == (2 * 192 + 3, 2 * 192 + 3)


def test_what_cannot_be_searched_is_told() -> None:
    with pytest.raises(BadBrief, match="say what to look for"):
        search_by_words([ImageRef("in")], Redness(), " ")
    with pytest.raises(BadPicture, match=r"broken\.jpg"):
        search_by_picture([ImageRef("in")], open_clip_scorer(), ImageRef("in/broken.jpg"))
    with pytest.raises(BadBrief, match="nothing to put on a sheet"):
        search_by_words([ImageRef("in/broken.jpg")], Redness(), "red").sheet()


@pytest.mark.parametrize(
    ("words", "file"), [("a tiger", "tiger"), ("章鱼", "octopus"), ("a teapot", "teapot"), ("fox", "fox")]
)
def test_the_shipped_eyes_find_drawings(words: str, file: str) -> None:
    hits = search_by_words([ImageRef(SAMPLES)], open_zero_shot(), words, top=2).hits
    assert {hit.file.stem for hit in hits} == {file}


def test_a_picture_finds_itself() -> None:
    place = SAMPLES / "3d" / "fox.png"
    hit = search_by_picture([ImageRef(SAMPLES / "3d")], open_clip_scorer(), ImageRef(place), top=1).hits[0]
    assert hit.file == place
    assert hit.score == pytest.approx(1, abs=1e-5)


def test_scores_are_what_classify_weighs() -> None:
    """The softmax of scale times score is the share of each label."""
    classifier, labels = open_zero_shot(), ["a tiger", "a samovar", "狐狸"]
    pixels = pixels_on_white(Image.open(SAMPLES / "3d" / "fox.png"))
    scores = classifier.scorer.scale * classifier.score_function(labels)(pixels)
    torch.testing.assert_close(scores.softmax(dim=-1), classifier.classify(pixels, labels), rtol=0, atol=1e-6)


def test_the_commands_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["search", "in", "a", "red", "heart", "--json", "-o", "sheet.png", "--top", "3"]) == 0
    out, err = capfd.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [set(row) for row in rows] == [{"file", "score"}] * 3 + [{"file", "error"}]
    assert [row["score"] for row in rows[:3]] == sorted((row["score"] for row in rows[:3]), reverse=True)
    assert "1 of 4 files" in err
    with Image.open("sheet.png") as sheet:
        assert sheet.size[0] > 192
    assert cli.run(["search", "in", "--like", "in/a.png"]) == 0
    assert cli.run(["score", "in/a.png", "in/b.png", "a red heart"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 5 + 3


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["search", "in"], "say what to look for"),
        (["search", "in", "red", "--like", "in/a.png"], "one of them"),
        (["search", "in", "red", "-o", "sheet.gif"], "end the name with"),
        (["search", "nowhere", "red"], "no folder at"),
        (["score", "in/a.png"], "Missing argument 'WORDS...'"),
        (["score", "in/a.png", "in/b.png"], "is a file"),
    ],
)
def test_wrong_requests_are_one_line(capfd: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    assert cli.run(argv) in (1, 2)
    lines = capfd.readouterr().err.splitlines()
    assert says in " ".join(lines)
    assert not Path("sheet.gif").exists()
