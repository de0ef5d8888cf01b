"""One registry of apps: whatever shows, runs or documents an app reads it, and a new app is one file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import danqing
import danqing.apps
from danqing.apps._inputs import AppInputs
from danqing.apps._registry import App, find_app, names
from danqing.apps._session import Session
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.interfaces.cli import main as cli
from tests.toy import CARD, Toy

MIRROR = '''"""Turn a picture around, left to right."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import ImageOps
from pydantic import Field

from danqing.apps._inputs import PictureInputs, optional_words
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.picture import Picture
from danqing.core.progress import Progress, ProgressCallback


class Mirror(PictureInputs):
    """Turn a picture around."""

    prompt: str = optional_words()
    twice: bool = Field(default=False, description="and back again")


@app(Mirror, examples=("danqing mirror cat.png",))
def mirror(inputs: Mirror, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """`image` as in a mirror."""
    from danqing.apps._job import Job

    job = Job.start("mirror", inputs, session, progress, image=inputs.image)
    progress(Progress(1, 1))
    image = job.source.image if inputs.twice else ImageOps.mirror(job.source.image)
    yield job.with_metadata(Picture(image, job.resolve(job.card.width, job.card.height)))
'''


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A toy app in one file of a temporary package."""
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "mirror.py").write_text(MIRROR, encoding="utf-8")
    monkeypatch.setattr(danqing.apps, "__path__", [*danqing.apps.__path__, str(tmp_path / "apps")])
    yield "mirror"
    sys.modules.pop("danqing.apps.mirror", None)


def test_a_new_app_is_one_file(mirror: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert mirror in names()
    assert find_app(mirror).schema()["properties"]["twice"]["description"] == "and back again"
    assert cli.run(["--help"]) == 0
    assert "Turn a picture around, left to right." in capfd.readouterr().out
    assert cli.run([mirror, "--help"]) == 0
    assert "--twice" in capfd.readouterr().out
    assert callable(getattr(danqing, mirror))
    assert mirror in dir(danqing)


def test_a_new_app_runs_everywhere(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    [start] = danqing.paint("a cat", painter=Toy(), seed=1)
    start.save("cat.png")
    [turned] = danqing.mirror("cat.png", painter=Toy())
    [again] = getattr(Session.of(Toy()), mirror)(turned)
    assert again.image.tobytes() == start.image.tobytes()
    monkeypatch.setattr(Session, "painter", lambda *_: Toy())
    assert cli.run([mirror, "cat.png", "--twice", "--seed", "3", "--model", "stickers"]) == 0, (
        capfd.readouterr().err
    )
    assert capfd.readouterr().out == "paintings/cat-mirror-3.png\n"
    assert cli.run(["show", "paintings/cat-mirror-3.png"]) == 0
    assert capfd.readouterr().out.splitlines()[-1].startswith("danqing mirror")


@pytest.mark.parametrize("name", names())
def test_every_app_keeps_the_contract(name: str) -> None:
    """It says what it does, takes what it says, and its schema holds its own fields and no others."""
    app = find_app(name)
    assert isinstance(app, App)
    assert (app.name, app.__module__) == (name, f"danqing.apps.{name}")
    assert app.help
    assert app.help.endswith(".")
    assert app.examples
    assert all(example.startswith("danqing ") for example in app.examples)
    assert issubclass(app.inputs, AppInputs)
    properties = app.schema(CARD)["properties"]
    assert set(properties) == set(app.inputs.model_fields)
    for entry in properties.values():
        assert {"title", "description", "group", "advanced"} <= set(entry)
    if "style" in properties:
        assert properties["style"]["enum"] == [None, *CARD.styles]
    assert set(app.inputs.positional) <= set(properties)
    assert list(app.__signature__.parameters)[: len(app.inputs.positional)] == sorted(
        app.inputs.positional, key=lambda field: not app.inputs.model_fields[field].is_required()
    )


def test_an_app_has_no_fields_of_others() -> None:
    assert set(find_app("describe").schema()["properties"]) == {"image", "language", "captioner", "model"}
    assert "mask" not in find_app("redraw").schema()["properties"]
    assert "fast" not in find_app("edit").schema()["properties"]
    assert find_app("edit").schema()["properties"]["method"]["enum"] == ["imagic", "inversion"]


def test_the_table_in_the_docs_is_that_of_the_registry() -> None:
    text = (Path(__file__).parent.parent / "docs" / "apps.md").read_text("utf-8")
    assert danqing.apps.apps_table() in text


def test_an_unknown_app_is_told_the_nearest() -> None:
    with pytest.raises(BadBrief, match="unknown app 'inpant': did you mean 'inpaint'"):
        find_app("inpant")
    with pytest.raises(AttributeError, match="no attribute 'inpant'"):
        _ = danqing.inpant


def test_everything_public_is_there_and_documented() -> None:
    for name in danqing.__all__:
        assert getattr(danqing, name, None) is not None, name
        assert name == "__version__" or (getattr(danqing, name).__doc__ or "").strip(), name
    assert issubclass(danqing.BadBrief, danqing.DanqingError)
    assert isinstance(danqing.paint("a cat", painter=Toy(), seed=1)[0].brief, Brief)
