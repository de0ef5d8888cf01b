"""`danqing train`: recipes are found by name, and what they leave can be painted with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from danqing import recipes
from danqing.core.errors import BadBrief
from danqing.core.picture import Picture
from danqing.data.dataset import CaptionedImages
from danqing.interfaces.cli.main import run
from danqing.recipes import _recipe
from tests.tiny import stickers


def folder_of(pictures: CaptionedImages, folder: Path) -> Path:
    """The pictures as an imagefolder."""
    lines = []
    for pixels, row in zip(pictures.pictures, pictures.rows, strict=True):
        place = folder / str(row["file_name"])
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy(), "RGBA").save(place)
        lines.append(json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(lines), "utf-8")
    return folder


@pytest.mark.parametrize("name", sorted(recipes.recipe_summaries()))
def test_every_recipe_registers_under_its_modules_name(name: str) -> None:
    made = _recipe.open_recipe(name)
    assert made.__name__ == name
    assert len(recipes.recipe_summaries()[name]) > 10


def test_a_trained_family_paints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder_of(stickers(64), tmp_path / "data")
    asked = ["train", "gan", "--data", str(data), "--run", str(tmp_path / "gan"), "--steps", "1"]
    assert run(asked) == 0
    weights = tmp_path / "gan" / "gan"
    assert capsys.readouterr().out.splitlines()[-1] == str(weights)
    out = tmp_path / "cat.png"
    assert run(["paint", "a cat", "--model", str(weights), "--seed", "3", "--out", str(out)]) == 0
    before = Picture.open(out).image
    assert before.size == (32, 32)
    assert run(asked) == 0  # nothing is left to train, so the same weights come out
    again = ["paint", "a cat", "--model", str(weights), "--seed", "3", "--out", str(out), "--overwrite"]
    assert run(again) == 0
    assert Picture.open(out).image.tobytes() == before.tobytes()


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with nothing but a caption each."""
    data = stickers(128)
    rows = tuple({"file_name": row["file_name"], "text": row["text"]} for row in data.rows)
    return folder_of(CaptionedImages(data.pictures, rows), tmp_path_factory.mktemp("captioned"))


@pytest.mark.parametrize("name", ["clip", "gan", "ddpm", "stable_diffusion"])
def test_a_folder_with_captions_alone_is_enough(name: str, captioned: Path, tmp_path: Path) -> None:
    further = ["--further"] if name == "stable_diffusion" else []
    asked = ["train", name, "--data", str(captioned), "--run", str(tmp_path / "run"), "--steps", "1"]
    assert run([*asked, "--parts", str(tmp_path), *further]) == 0
    assert len(list((tmp_path / "run").rglob("*.safetensors"))) >= 2  # a checkpoint, and the weights


@pytest.mark.parametrize("name", ["judge", "vit"])
def test_what_needs_names_says_so(
    name: str, captioned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", name, "--data", str(captioned), "--run", str(tmp_path)]) == 1
    assert "has no concept: write it into metadata.jsonl" in capsys.readouterr().err


def test_pictures_that_no_row_holds_out_are_held_out_by_name(tmp_path: Path) -> None:
    data = stickers(16)
    rows = tuple({"file_name": f"{k}.png", "text": f"{k}"} for k in range(200))
    many = CaptionedImages(data.pictures[torch.arange(200) % len(data)], rows)
    asked = _recipe.TrainRequest(folder_of(many, tmp_path), tmp_path, tmp_path)
    seen, unseen = _recipe.read(asked)
    assert len(seen) + len(unseen) == 200
    assert 2 <= len(unseen) <= 25
    assert _recipe.read(asked)[1].rows == unseen.rows


def test_what_can_be_trained_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--list"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in recipes.recipe_summaries())


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["train", "gann"], "did you mean 'gan'?"),
        (["train", "gan", "--data", "nowhere"], "'nowhere' is no folder"),
        (["train", "gan", "--further"], "recipe 'gan' always starts anew: leave --further out"),
        (["train", "gan", "--steps", "0"], "greater than or equal to 1"),
    ],
)
def test_a_wrong_wish_is_one_line(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == 2
    told = capsys.readouterr().err
    assert says in told
    assert len(told.strip().splitlines()) == 1


def test_a_run_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    assert run(["train", "gan", "--data", str(tmp_path), "--run", str(tmp_path / "file")]) == 1
    [told] = capsys.readouterr().err.splitlines()
    assert "cannot write" in told


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(BadBrief, match="unknown recipe 'nonsense'"):
        _recipe.open_recipe("nonsense")
