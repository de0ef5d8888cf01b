"""`danqing lineage`: every family paints the same words, and the sheet says who did what."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import danqing
from danqing.apps._lineage import sheet
from danqing.apps.lineage import lineage
from danqing.conditioning.names import Names
from danqing.core.picture import Picture
from danqing.families import gan
from danqing.interfaces.cli.main import run


def a_model(folder: Path, name: str, year: int) -> str:
    painter = gan.random_painter(names=Names(("cat/猫",)), seed=year)
    told = {"name": name, "year": year, "styles": {}}
    card = painter.card.model_copy(update=told)
    gan.save_latent(gan.GanPainter(card, painter.generator, painter.names), folder / name)
    return str(folder / name)


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    return [a_model(tmp_path, "later", 2020), a_model(tmp_path, "earlier", 2014)]


def test_the_oldest_idea_comes_first_and_all_share_a_seed(models: list[str]) -> None:
    found = lineage("a cat", models=models)
    assert [one.card.name for one in found] == ["earlier", "later"]
    assert len({one.picture.brief.seed for one in found}) == 1
    assert all(-1 <= one.score <= 1 and one.picture.info.seconds > 0 for one in found)


def test_a_picture_of_the_lineage_is_the_one_that_paint_paints(models: list[str]) -> None:
    [one] = lineage("a cat", models=models[:1], seed=5)
    [alone] = danqing.paint("a cat", model=models[0], seed=5)
    assert one.picture.image.tobytes() == alone.image.tobytes()


def test_the_sheet_tells_how_words_reach_a_family(models: list[str]) -> None:
    found = lineage("a cat", models=models, seed=5)
    assert found[0].label[:2] == ("2014 gan", "arXiv 1406.2661")
    assert found[0].label[3:] == ("led by names it knows",)
    assert sheet(found).size == (2 * 264, 264 + 80)
    assert sheet(found, columns=1).size == (264, 2 * (264 + 80))


def test_the_command_writes_the_sheet_and_the_single_pictures(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["lineage", "a", "cat", "--models", ",".join(models), "--seed", "5"]
    assert run([*asked, "--out", str(tmp_path / "all.png"), "--singles", str(tmp_path / "each")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "all.png")
    with Image.open(tmp_path / "all.png") as image:
        assert image.width == 2 * 264
    single = Picture.open(tmp_path / "each" / "2014-earlier-5.png")
    assert (single.info.app, single.brief.prompt, single.brief.model) == ("lineage", "a cat", models[1])


def test_what_cannot_be_written_is_told_before_it_is_painted(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    asked = ["lineage", "a cat", "--models", f"{models[0]},,", "--out", str(tmp_path / "all.png")]
    assert run([*asked, "--singles", str(tmp_path / "file" / "each")]) == 1
    assert "painting" not in capsys.readouterr().err
    asked[1] = "a dragon"
    assert run(asked) == 0  # what is empty between commas names nothing
    assert "unknown to the model; these were not painted: a dragon" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["lineage", "a cat", "--models", "gna"], "unknown model 'gna'"),
        (["lineage", " "], "say what to paint"),
        (["lineage", "a cat", "--models", ","], "models ',' names none"),
    ],
)
def test_a_wrong_wish_is_one_line(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert says in told[-1]
    assert len(told) == 1
