"""What can be found wrong without a model is found without one: no torch is imported, and it is one line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from danqing.interfaces.cli import main as cli
from tests.command_line import python

WRONG: dict[str, str] = {  # command line -> what the message says
    "paint fox --sampler eulr": "unknown sampler 'eulr': did you mean 'euler'?",
    "paint fox --style wash": "unknown style 'wash'",
    "paint fox --adapter nope": "unknown adapter 'nope'",
    "paint <nope>": "unknown adapter 'nope'",
    "paint {<nope>|<nope>}": "unknown adapter 'nope'",
    "paint fox --adapter none.safetensors": "unknown adapter 'none.safetensors'",
    "paint fox --model nope": "unknown model 'nope'",
    "paint fox --width 50": "width 50 is not a multiple of",
    "paint fox --out a.xyz": "end the name with",
    "paint fox --out fox.png": "'fox.png' is there already",
    "redraw fox.png fox --sampler eulr": "unknown sampler 'eulr'",
    "redraw fox.png <nope>": "unknown adapter 'nope'",
    "redraw none.png fox": "no picture at 'none.png'",
    "redraw fox.png fox --strength 2": "strength 2 is too large",
    "inpaint fox.png fox": "0 ways to say what to repaint",
    "inpaint fox.png fox --mask none.png": "no picture at 'none.png'",
    "inpaint fox.png fox --mask small.png": "mask 'small.png' is 18x14",
    "inpaint fox.png fox --mask black.png": "mask 'black.png'",
    "outpaint fox.png": "nothing to add",
    "zoom fox.png --by 1": "by 1 is too small",
    "upscale none.png": "no picture at 'none.png'",
    "vary none.png": "no picture at 'none.png'",
    "blend fox.png": "cannot be blended",
    "edit none.png fox": "no picture at 'none.png'",
    "describe none.png": "no picture at 'none.png'",
    "reroll fox.png": "does not say how it was painted",
    "animate fox --start none.png": "no picture at 'none.png'",
    "animate fox --sampler eulr": "unknown sampler 'eulr'",
    "animate fox --zoom much": "zoom",
    "lineage fox --models nope": "unknown model 'nope'",
    "learn 9x fox.png small.png": "begin with a letter",
    "learn x fox.png": "from 2 pictures or more, best 4, not 1",
    "learn x fox.png small.png --method nope": "method 'nope'",
    "learn x empty": "no pictures in 'empty'",
    "learn x fox.png small.png --model nope": "unknown model 'nope'",
    "train nope": "unknown recipe 'nope'",
    "evaluate --data . --model nope": "unknown model 'nope'",
}
CHECK = (
    "import json, sys\n"
    "from danqing.interfaces.cli.main import run\n"
    "heavy = {'torch', 'diffusers', 'transformers', 'scipy'}\n"
    "for line in json.loads(sys.argv[1]):\n"
    "    run(line.split())\n"
    "    assert not heavy & set(sys.modules), line\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Image.new("RGB", (64, 64), "orange").save(tmp_path / "fox.png")
    Image.new("RGB", (18, 14), "white").save(tmp_path / "small.png")
    Image.new("L", (64, 64), 0).save(tmp_path / "black.png")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_request_is_one_line_and_leaves_nothing(
    line: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in folder.rglob("*"))
    assert cli.run(line.split()) in (1, 2)
    shown = capfd.readouterr()
    assert WRONG[line] in shown.err
    assert shown.err.rstrip().splitlines()[-1].startswith("danqing: ")
    assert shown.out == ""
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_none_of_them_imports_torch(folder: Path) -> None:
    command = [*python(CHECK), json.dumps(list(WRONG))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
