"""The commands made from forms: what they write, what they tell, how they refuse."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from danqing.apps._registry import names
from danqing.apps.describe import describe
from danqing.conditioning.wildcards import choose
from danqing.core.errors import BadBrief
from danqing.core.picture import Picture
from danqing.core.source_image import picture_id
from danqing.families.stable_diffusion.painter import random_components, save_folder
from danqing.interfaces.cli import main as cli
from danqing.tuning.adapter_files import read_adapter


def loaded(path: str) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image.copy()


def clear(path: str) -> None:
    """Write the picture `in.png` fading into transparency."""
    image = loaded("in.png").convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(path)


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    components = random_components("tiny")
    save_folder(replace(components, card=components.card.model_copy(update={"redraw_guidance": 9.0})), folder)
    return folder


@pytest.fixture
def ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tiny: Path
) -> Callable[..., Any]:
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


def test_redraw_names_its_picture_after_the_source_and_the_seed(ask: Callable[..., Any]) -> None:
    answer = ask("redraw", "in.png", "a", "cat", "--strength", "0.5", "--seed", "4")
    assert (answer.code, answer.out) == (0, "paintings/in-redraw-4.png\n")
    picture = Picture.open("paintings/in-redraw-4.png")
    assert (picture.brief.prompt, picture.brief.image, picture.brief.strength) == ("a cat", "in.png", 0.5)
    assert picture.info.parent == picture_id(loaded("in.png"))


def test_inpaint_writes_where_told(ask: Callable[..., Any]) -> None:
    answer = ask("inpaint", "in.png", "a cat", "--mask", "mask.png", "--feather", "2", "-o", "out.webp")
    assert (answer.code, answer.out) == (0, "out.webp\n")
    done, before = np.asarray(loaded("out.webp").convert("RGB")), np.asarray(loaded("in.png"))
    kept = np.asarray(loaded("mask.png")) == 0
    assert (done[kept] == before[kept]).all()


def test_a_grid_its_cells_and_its_buttons(ask: Callable[..., Any]) -> None:
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


def test_zoom_pan_and_remix(ask: Callable[..., Any]) -> None:
    assert loaded(ask("zoom", "in.png", "a cat", "--by", "2").out.strip()).size == (128, 128)
    assert loaded(ask("pan", "in.png", "left", "a cat").out.strip()).size == (96, 64)
    remixed = ask("remix", "in.png", "a dog", "--count", "1")
    assert Picture.open(remixed.out.strip()).brief.prompt == "a dog"


def test_a_picture_in_front_of_the_words_and_a_picture_for_the_style(ask: Callable[..., Any]) -> None:
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
        (("redraw", "in.png", "a cat", "--strength", "0.1"), 2, "is less than one step"),
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
        (("stylize", "in.png", "剪纸"), 2, "'剪纸' is a style: give it as the style"),
        (("stylize", "in.png", "a cat", "--style", "papercut"), 2, "did you mean"),
        (("edit", "in.png", "a cat", "--etas", "0,2"), 2, "etas"),
        (("edit", "in.png", "a cat", "--etas", ","), 2, "etas"),
        (("edit", "in.png", "a cat", "--etas", "0.5,0.50"), 2, "eta0.5 is asked for twice"),
        (("edit", "in.png", ""), 2, "prompt"),
        (("edit", "in.png", "a cat", "--fast", "--etas", "0,1"), 2, "leave the etas out"),
        (("redraw", "in.png", "a cat --ar 3:2"), 2, "--ar is for paint"),
        (("inpaint", "in.png", "a cat", "--damage", "holes"), 2, "none found"),
        (("reroll", "in.png"), 1, "does not say how it was painted"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    ask: Callable[..., Any], argv: tuple[Any, ...], code: int, said: str
) -> None:
    answer = ask(*argv)
    lines = [line for line in answer.err.splitlines() if line.startswith("danqing: ")]
    assert (answer.code, len(lines)) == (code, 1), answer.err
    assert said in lines[0]
    assert not Path("paintings").exists()


REQUESTS = {
    "redraw": ("in.png", "a cat", "--strength", "0.5"),
    "inpaint": ("in.png", "a cat", "--mask", "mask.png", "--feather", "3"),
    "outpaint": ("in.png", "a cat", "--right", "0.6", "--top", "0.2"),
    "zoom": ("in.png", "a cat"),
    "pan": ("in.png", "up", "a cat", "--by", "0.3"),
    "vary": ("grid.png", "2", "--how", "subtle"),
    "remix": ("cell.png", "a dog"),
    "blend": ("in.png", "cell.png", "--prompt", "a fox", "--weights", "2,1"),
    "stylize": ("in.png", "a cat", "--style", "anime"),
    "upscale": ("cell.png", "--creative", "--prompt", "-a cat"),
    "edit": ("in.png", "a cat", "--effort", "0.02", "--etas", "0.5"),
}


@pytest.mark.parametrize("app", REQUESTS)
def test_the_command_that_show_tells_makes_it_again(ask: Callable[..., Any], app: str) -> None:
    ask("imagine", "a cat", "--seed", "3", "-o", "grid.png")
    ask("upscale", "grid.png", "1", "-o", "cell.png")
    made = (
        ask(app, *REQUESTS[app], "--steps", "4", "--count", "1", "-o", "made.png")
        if app not in ONE
        else ask(app, *REQUESTS[app], "--steps", "4", "-o", "made.png")
    )
    assert made.code == 0, made.err
    line = shlex.split(ask("show", "made.png").out.splitlines()[-1])
    assert line[:2] == ["danqing", "vary" if app == "remix" else app]
    again = cli.run([*line[1:], "-o", "again.png"])
    assert again == 0
    assert loaded("again.png").tobytes() == loaded("made.png").tobytes()


ONE = ("upscale", "edit")


def test_the_sheet_of_a_strip_and_each_of_its_steps_can_be_made_again(ask: Callable[..., Any]) -> None:
    quick = ("--effort", "0.02", "--steps", "2", "--seed", "3")
    made = ask("edit", "in.png", "a cat", *quick, "-o", "made.png")
    assert made.code == 0, made.err
    assert made.out.split() == [*(f"made-step{k}.png" for k in (1, 2, 3, 4)), "made.png"]
    for name in ("made.png", "made-step3.png"):
        line = shlex.split(ask("show", name).out.splitlines()[-1])
        assert cli.run([*line[1:], "-o", "again.png", "--overwrite"]) == 0
        assert loaded("again.png").tobytes() == loaded(name).tobytes()


def test_a_cell_of_pictures_that_are_not_as_large_as_their_canvas(ask: Callable[..., Any]) -> None:
    loaded("in.png").resize((80, 48)).save("wide.png")
    varied = ask("vary", "wide.png", "--prompt", "a cat", "--count", "3", "--seed", "1")
    assert varied.code == 0, varied.err
    *singles, sheet = varied.out.split()
    third = ask("upscale", sheet, "3", "-o", "third.png")
    assert third.code == 0, third.err
    assert loaded("third.png").tobytes() == loaded(singles[2]).tobytes()
    assert "is a grid of 3 pictures: name a cell" in ask("vary", sheet).err


@pytest.mark.parametrize("app", [("zoom",), ("pan", "left")])
def test_the_view_of_a_cell_is_moved(ask: Callable[..., Any], app: tuple[Any, ...]) -> None:
    ask("imagine", "a cat", "--seed", "3", "-o", "grid.png")
    ask("upscale", "grid.png", "2", "-o", "cell.png")
    command, *where = app
    for name, cell in (("grid.png", ("--cell", "2")), ("cell.png", ())):
        made = ask(command, name, *where, *cell, "--steps", "2", "--seed", "1", "-o", f"made-{name}")
        assert made.code == 0, made.err
    assert loaded("made-grid.png").tobytes() == loaded("made-cell.png").tobytes()
    assert "is a grid" in ask(command, "grid.png", *where).err


ON_A_GRID = {
    "redraw": ("grid.png", "a cat"),
    "stylize": ("grid.png", "a cat", "--style", "anime"),
    "edit": ("grid.png", "a cat", "--fast"),
    "blend": ("in.png", "grid.png"),
}


@pytest.mark.parametrize("app", ON_A_GRID)
def test_a_grid_is_not_taken_for_one_picture(ask: Callable[..., Any], app: str) -> None:
    ask("imagine", "a cat", "--seed", "3", "-o", "grid.png")
    answer = ask(app, *ON_A_GRID[app])
    assert answer.code == 2
    assert "'grid.png' is a grid of 4 pictures" in answer.err
    with pytest.raises(BadBrief, match="is a grid"):
        describe("grid.png")


def test_a_cell_means_what_was_chosen_for_it(ask: Callable[..., Any]) -> None:
    asked = "a {red|green|blue|black} cat"
    ask("imagine", asked, "--seed", "3", "-o", "grid.png")
    assert Picture.open("grid.png").info.chosen == ""
    for number in (1, 2, 3, 4):
        ask("upscale", "grid.png", str(number), "-o", "cell.png", "--overwrite")
        said = Picture.open("cell.png").brief.prompt
        assert said == choose(asked, 2 + number) != asked
        zoomed = ask(
            "zoom", "grid.png", "--cell", str(number), "--seed", "1", "-o", "zoomed.png", "--overwrite"
        )
        assert zoomed.code == 0, zoomed.err
        assert Picture.open("zoomed.png").brief.prompt == said


def test_a_grid_from_a_picture_in_front_can_be_made_again(ask: Callable[..., Any]) -> None:
    loaded("in.png").save("my photo.tif")
    made = ask("imagine", "my photo.tif a cat", "--seed", "3", "-o", "grid.png")
    assert made.code == 0, made.err
    sheet = Picture.open("grid.png")
    assert (sheet.brief.image, sheet.brief.prompt, sheet.brief.count) == ("my photo.tif", "a cat", 4)
    assert sheet.brief.guidance == 9
    line = shlex.split(ask("show", "grid.png").out.splitlines()[-1])
    assert cli.run([*line[1:], "-o", "again.png"]) == 0
    assert loaded("again.png").tobytes() == loaded("grid.png").tobytes()
    assert "only its words are painted again" in ask("reroll", "grid.png").err


def test_words_that_end_like_a_long_file_are_words(ask: Callable[..., Any]) -> None:
    made = ask("paint", f"a cat {'very ' * 60}near poster.png", "-o", "made.png")
    assert made.code == 0, made.err


def test_a_style_of_the_command_line_goes_before_one_by_picture(ask: Callable[..., Any]) -> None:
    answer = ask("paint", "a cat --sref in.png", "--style", "flat", "-o", "made.png")
    assert "--sref has no effect" in answer.err or "unknown style" in answer.err


@pytest.mark.parametrize(
    "request_",
    [
        ("inpaint", "clear.png", "a cat", "--mask", "mask.png"),
        ("zoom", "clear.png", "a cat"),
        ("upscale", "clear.png"),
    ],
)
def test_a_ground_goes_under_what_is_kept_too(ask: Callable[..., Any], request_: tuple[Any, ...]) -> None:
    clear("clear.png")
    made = ask(*request_, "--background", "#ffffff", "-o", "made.jpg")
    assert made.code == 0, made.err
    assert loaded("made.jpg").mode == "RGB"


def test_words_that_look_like_parameters_stay_words(ask: Callable[..., Any]) -> None:
    made = ask("redraw", "in.png", r"a cat \--tile", "--seed", "1", "-o", "made.png")
    assert made.code == 0, made.err
    line = shlex.split(ask("show", "made.png").out.splitlines()[-1])
    assert line[-1] == r"a cat \--tile"


def test_a_variation_as_far_as_asked(ask: Callable[..., Any]) -> None:
    ask("paint", "a cat", "--seed", "3", "-o", "one.png")
    for name, far in (("near.png", "0.05"), ("far.png", "0.9")):
        made = ask("vary", "one.png", "--count", "1", "--seed", "1", "--variation", far, "-o", name)
        assert made.code == 0, made.err
        assert Picture.open(name).brief.variation == float(far)


def test_the_command_that_learn_tells_paints_from_a_folder_of_ones_own(ask: Callable[..., Any]) -> None:
    Path("photos").mkdir()
    for seed in (1, 2):
        noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(f"photos/{seed}.png")
    learned = ask("learn", "zed", "photos", "--class", "cat", "--out", "my own")
    assert learned.code == 0, learned.err
    told = shlex.split(learned.err.strip().splitlines()[-1].partition("danqing ")[2])
    made = ask(*told, "-o", "made.png")
    assert made.code == 0, made.err
    assert list(Picture.open("made.png").brief.adapters) == ["my own/zed.safetensors"]


def test_learn_goes_on_and_begins_anew(ask: Any) -> None:
    Path("photos").mkdir()
    for seed in (1, 2):
        noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(f"photos/{seed}.png")
    file, progress = Path("adapters/zed.safetensors"), Path("adapters/zed/checkpoint/progress.json")
    short = ("--prior", "0")
    for refused, line in (
        (("zed", "--further", "1"), "nothing was learned as 'zed' in 'adapters': give its pictures first"),
        (("zed",), "nothing was learned as 'zed'"),
        (("zed", "--restart"), "nothing was learned as 'zed'"),
        (("zed", "photos", "--restart", "--further", "1"), "leave one out"),
    ):
        answer = ask("learn", *refused)
        assert (answer.code, line in answer.err) == (2, True), answer.err
    learned = ask("learn", "zed", "photos", "--class", "cat", *short)
    assert learned.code == 0, learned.err
    assert "learning needs about" in learned.err
    first = read_adapter(file).tensors()
    further = ask("learn", "zed", "--further", "1")
    assert further.code == 0, further.err
    assert json.loads(progress.read_text())["step"] == 3
    assert not same(read_adapter(file).tensors(), first)
    shutil.copy(file, "adapters/other.safetensors")
    for refused, code, line in (  # type: ignore[assignment]
        (("other", "photos"), 2, "was not learned here: choose another name, or --restart replaces it"),
        (("zed", "photos", "--class", "dog"), 1, "holds another run"),
    ):
        answer = ask("learn", *refused)
        assert (answer.code, line in answer.err) == (code, True), answer.err
    Path("adapters/other.safetensors").unlink()  # whose rare token would be avoided
    assert ask("learn", "zed", "--restart").code == 0
    assert json.loads(progress.read_text())["step"] == 2
    assert same(read_adapter(file).tensors(), first)


def same(some: Any, others: Any) -> Any:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_what_show_reads_comes_from_strangers(ask: Callable[..., Any]) -> None:
    ask("redraw", "in.png", "a cat", "-o", "a.png")
    picture = Picture.open("a.png")
    for asked in ({"form": 1, "brief": 2}, {"strength": "\x1b[31m"}, {"image": "x\x1b[2Jy"}, {"new": [1]}):
        info = picture.info.model_copy(update={"asked": {**picture.info.inputs, **asked}})
        Picture(picture.image, picture.brief, info).save("b.png")
        answer = ask("show", "b.png")
        assert answer.code == 0, answer.err
        assert "\x1b[2J" not in answer.out
        assert "danqing" in answer.out.splitlines()[-1]


def test_a_jpeg_is_refused_before_painting_where_transparency_comes(ask: Callable[..., Any]) -> None:
    clear("clear.png")
    answer = ask("redraw", "clear.png", "a cat", "-o", "out.jpg")
    assert (answer.code, "JPEG has no transparency" in answer.err) == (2, True)
    assert ask("redraw", "clear.png", "a cat", "--background", "white", "-o", "out.jpg").code == 0


def test_a_picture_in_front_of_the_words_is_redrawn_as_redraw_does(ask: Callable[..., Any]) -> None:
    """What is not asked for is decided for a given picture, not for words alone."""
    clear("clear.png")
    for file in ("in.png", "clear.png"):
        assert ask("paint", file, "a cat", "--seed", "4", "-o", "a.png", "--overwrite").code == 0
        size = ("--width", "128", "--height", "128")
        asked = ("redraw", file, "a cat", "--seed", "4", "--strength", "0.7", *size, "-o", "b.png")
        asked = (*asked, "--overwrite")  # type: ignore[assignment]
        assert ask(*asked).code == 0
        one, other = (Picture.open(name) for name in ("a.png", "b.png"))
        assert one.brief == other.brief
        assert one.image.tobytes() == other.image.tobytes()
        assert one.image.mode == loaded(file).mode
    assert "JPEG has no transparency" in ask("paint", "clear.png", "a cat", "-o", "out.jpg").err


def test_conversions_are_told(ask: Callable[..., Any]) -> None:
    loaded("in.png").convert("CMYK").save("in.tiff")
    assert "converted from CMYK to RGB" in ask("redraw", "in.tiff", "a cat").err


def test_help_tells_what_happens_without_an_option(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["learn", "--help"]) == 0
    said = " ".join(capfd.readouterr().out.replace("│", " ").split())
    assert "Fixes all that is random [default: (0)]" in said
    assert "Learning rate [default: (what suits the model)]" in said


@pytest.mark.parametrize("name", names())
def test_every_command_has_a_help_page_with_an_example(capfd: pytest.CaptureFixture[str], name: str) -> None:
    assert cli.run([name, "--help"]) == 0
    page = capfd.readouterr().out
    assert f"danqing {name}" in page
    assert "None" not in page
