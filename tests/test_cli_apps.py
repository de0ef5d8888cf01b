"""The commands made from forms: what they write, what they tell, how they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageDraw

from danqing.core.picture import Picture
from danqing.core.sources import picture_id
from danqing.families.stable_diffusion import random_parts, save_folder
from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli.apps import APPS


def loaded(path: str) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image.copy()


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(random_parts("tiny"), folder)
    return folder


@pytest.fixture
def ask(tmp_path, monkeypatch, capfd, tiny):
    """The command line in an empty folder, with a tiny model and two pictures."""
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    image.save("in.png")
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).rectangle((10, 10, 40, 40), fill=255)
    mask.save("mask.png")

    def run(*argv: str) -> Answer:
        model = ("--model", str(tiny), "--steps", "2") if argv[0] not in ("reroll", "show") else ()
        code = cli.run([argv[0], *model, *argv[1:]])
        return Answer(code, *capfd.readouterr())

    return run


def test_redraw_names_its_picture_after_the_source_and_the_seed(ask):
    answer = ask("redraw", "in.png", "a", "cat", "--strength", "0.5", "--seed", "4")
    assert (answer.code, answer.out) == (0, "paintings/in-redraw-4.png\n")
    picture = Picture.open("paintings/in-redraw-4.png")
    assert (picture.brief.prompt, picture.brief.image, picture.brief.strength) == ("a cat", "in.png", 0.5)
    assert picture.info.parent == picture_id(loaded("in.png"))


def test_inpaint_writes_where_told(ask):
    answer = ask("inpaint", "in.png", "a cat", "--mask", "mask.png", "--feather", "2", "-o", "out.webp")
    assert (answer.code, answer.out) == (0, "out.webp\n")
    done, before = np.asarray(loaded("out.webp").convert("RGB")), np.asarray(loaded("in.png"))
    kept = np.asarray(loaded("mask.png")) == 0
    assert (done[kept] == before[kept]).all()


def test_a_grid_its_cells_and_its_buttons(ask):
    answer = ask("imagine", "a cat", "--seed", "7")
    assert answer.out == "paintings/a-cat-7-grid.png\n"
    sheet = Picture.open("paintings/a-cat-7-grid.png")
    assert sheet.brief.count == 4
    third = ask("upscale", "paintings/a-cat-7-grid.png", "3")
    assert third.code == 0, third.err
    cell = Picture.open(third.out.strip())
    assert cell.brief.seed == 9
    alone = ask("paint", "a cat", "--seed", "9", "-o", "alone.png")
    assert alone.code == 0
    assert loaded("alone.png").tobytes() == cell.image.tobytes()
    varied = ask("vary", "paintings/a-cat-7-grid.png", "3", "--count", "2", "--seed", "1")
    assert varied.code == 0, varied.err
    names = varied.out.split()
    assert names == [f"paintings/a-cat-7-grid-vary-{end}.png" for end in ("1", "2", "1-grid")]
    assert Picture.open(names[0]).info.parent == picture_id(cell.image)
    again = ask("reroll", "paintings/a-cat-7-grid.png")
    assert again.code == 0, again.err
    rerolled = Picture.open(again.out.strip())
    assert (rerolled.brief.prompt, rerolled.brief.count) == ("a cat", 4)
    assert rerolled.brief.seed != 7


def test_zoom_pan_and_remix(ask):
    assert loaded(ask("zoom", "in.png", "a cat", "--by", "2").out.strip()).size == (128, 128)
    assert loaded(ask("pan", "in.png", "left", "a cat").out.strip()).size == (96, 64)
    remixed = ask("remix", "in.png", "a dog", "--count", "1")
    assert Picture.open(remixed.out.strip()).brief.prompt == "a dog"


def test_a_picture_in_front_of_the_words_and_a_picture_for_the_style(ask):
    answer = ask("imagine", "in.png a cat --iw 2", "--seed", "7", "--steps", "5")
    assert answer.code == 0, answer.err
    sheet = Picture.open(answer.out.strip())
    assert (sheet.brief.image, sheet.brief.prompt, sheet.brief.strength) == ("in.png", "a cat", 0.4)
    styled = ask("paint", "a cat --sref in.png", "--seed", "7", "-o", "styled.png")
    assert styled.code == 0, styled.err
    assert Picture.open("styled.png").brief.style in ("3d", "paper-cut")
    assert "no picture at 'none.png'" in ask("paint", "none.png a cat").err
    assert "no effect" in ask("paint", "a cat --iw 2").err


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("redraw", "none.png", "a cat"), 1, "no picture at 'none.png'"),
        (("redraw", "in.png", "a cat", "--strength", "0"), 2, "strength 0"),
        (("redraw", "in.png", "a cat", "--strength", "0.1"), 2, "use 10 steps or more"),
        (("inpaint", "in.png", "a cat"), 2, "0 ways to say what to repaint"),
        (("inpaint", "in.png", "--mask", "in.png", "--damage", "holes"), 2, "2 ways"),
        (("inpaint", "in.png", "--damage", "rust"), 2, "damage"),
        (("outpaint", "in.png", "a cat"), 2, "nothing to add"),
        (("outpaint", "in.png", "a cat", "--right", "9"), 2, "right 9 is too large"),
        (("pan", "in.png", "north"), 2, "to 'north'"),
        (("vary", "in.png", "2"), 2, "is not a grid"),
        (("vary", "in.png"), 2, "does not say its words"),
        (("blend", *["in.png"] * 6), 2, "5"),
        (("blend", "in.png", "in.png", "--weights", "1,2,3"), 2, "3 weights for 2 pictures"),
        (("stylize", "in.png"), 2, "give one of a style"),
        (("stylize", "in.png", "a cat", "--style", "papercut"), 2, "did you mean"),
        (("reroll", "in.png"), 1, "does not say how it was painted"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(ask, argv, code, said):
    answer = ask(*argv)
    lines = [line for line in answer.err.splitlines() if line.startswith("danqing: ")]
    assert (answer.code, len(lines)) == (code, 1), answer.err
    assert said in lines[0]
    assert not Path("paintings").exists()


def test_conversions_are_told(ask):
    loaded("in.png").convert("CMYK").save("in.tiff")
    assert "converted from CMYK to RGB" in ask("redraw", "in.tiff", "a cat").err


@pytest.mark.parametrize("name", sorted(APPS))
def test_every_command_has_a_help_page_with_an_example(capfd, name):
    assert cli.run([name, "--help"]) == 0
    page = capfd.readouterr().out
    assert f"danqing {name}" in page
    assert "None" not in page
