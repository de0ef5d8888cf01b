"""A session keeps models open; a request is read, validated and resolved once; a server opens no paths."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import danqing
from danqing.apps import _session
from danqing.apps._parameter_bytes import parameter_bytes
from danqing.apps._registry import find_app
from danqing.apps._session import NamedSession, Session
from danqing.core import image_ref
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.core.image_ref import ImageRef
from danqing.core.picture import Picture
from danqing.core.progress import Progress
from danqing.core.request import FrozenModel
from danqing.families.stable_diffusion.painter import random_components, save_folder
from tests.tiny import model_folder
from tests.toy import Toy

QUICK: dict[str, Any] = {"steps": 2, "seed": 3, "native": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(random_components("tiny"), place)
    return place


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[object, str], Counter[str]]:
    """Counts the calls of a function of a module or a class."""

    def watch(owner: Any, name: str) -> Counter[str]:
        calls: Counter[str] = Counter()
        original = owner.__dict__[name]
        function = original.__func__ if isinstance(original, classmethod) else original

        def counted(*args: Any, **fields: Any) -> Any:
            calls[name] += 1
            return function(*args, **fields)

        made = classmethod(counted) if isinstance(original, classmethod) else counted
        monkeypatch.setattr(owner, name, made)
        return calls

    return watch


def test_a_second_request_opens_nothing(folder: Path, count: Callable[[Any, str], Counter[str]]) -> None:
    import danqing.weights.pretrained as pretrained

    with Session() as session:
        [first] = session.paint("a cat", model=str(folder), **QUICK)
        reads = count(pretrained, "read_tensors")
        [again] = session.paint("a cat", model=str(folder), **QUICK)
        assert sum(reads.values()) == 0
        assert first.image.tobytes() == again.image.tobytes()
        session.close()
        session.paint("a cat", model=str(folder), **QUICK)
        assert sum(reads.values()) > 0


def test_functions_share_one_session(folder: Path) -> None:
    danqing.paint("a cat", model=str(folder), **QUICK)
    painter = _session.default_session().painter(str(folder))
    danqing.paint("a dog", model=str(folder), **QUICK)
    assert _session.default_session().painter(str(folder)) is painter


def test_the_model_used_longest_ago_is_closed_first(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("one", "two", "three")]
    for place in places:
        save_folder(random_components("tiny"), place)
    size = parameter_bytes(Session().painter(str(places[0])))
    assert size > 10_000
    session = Session(memory_budget=2 * size)
    one, two = (session.painter(str(place)) for place in places[:2])
    assert session.painter(str(places[0])) is one
    session.painter(str(places[2]))  # closes the second
    assert session.painter(str(places[0])) is one
    assert session.painter(str(places[1])) is not two


def test_names_are_looked_up_in_the_folder_of_models(folder: Path) -> None:
    session = Session(models=folder.parent)
    [picture] = session.paint("a cat", model="tiny", **QUICK)
    assert picture.brief.model == "tiny"
    with pytest.raises(BadBrief, match="unknown model 'tinny'"):
        session.paint("a cat", model="tinny", **QUICK)


def test_two_threads_paint_what_one_would(folder: Path) -> None:
    session = Session()
    alone = [session.paint("a cat", model=str(folder), **{**QUICK, "seed": seed})[0] for seed in range(4)]
    found: dict[int, Picture] = {}

    def work(seed: int) -> None:
        [found[seed]] = session.paint("a cat", model=str(folder), **{**QUICK, "seed": seed})

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed].image.tobytes() for seed in range(4)] == [one.image.tobytes() for one in alone]


def test_a_request_is_validated_and_resolved_once(count: Callable[[Any, str], Counter[str]]) -> None:
    validated, resolved = count(FrozenModel, "of_mapping"), count(Brief, "resolve")
    app, session = find_app("paint"), Session.of(Toy())
    inputs = app.parse({"prompt": "a cat --ar 1:1 --chaos 3", "seed": 1, "count": 3}, session)
    assert len(session.run(app, inputs)) == 3
    assert resolved["resolve"] == 1
    assert validated["of_mapping"] == 2  # the inputs, and the brief that is made of them


def test_each_picture_is_read_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Callable[[Any, str], Counter[str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("in.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (8, 8, 40, 40))
    mask.save("mask.png")
    reads = count(image_ref, "read_source")
    danqing.inpaint("in.png", "a cat", mask="mask.png", model=str(folder), steps=2, seed=1)
    assert reads["read_source"] == 2
    danqing.paint("in.png a cat", model=str(folder), steps=5, seed=1)
    assert reads["read_source"] == 3


def test_a_server_says_what_the_name_of_a_picture_means(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64), "red").save(secret)
    gallery = {"7f3a": Image.new("RGB", (64, 64), "blue")}

    def lookup(name: str) -> ImageRef:
        if name not in gallery:
            raise ValueError("no such picture in the gallery")
        return ImageRef(gallery[name], name)

    session, values = Session.of(Toy()), {"words": "a cat", "image": "7f3a"}
    inputs = find_app("describe").parse({"image": values["image"]}, session, lookup)
    assert inputs.image.source.image.getpixel((0, 0)) == (0, 0, 255)
    assert inputs.metadata()["image"] == "7f3a"
    with pytest.raises(BadBrief, match=r"image .*no such picture in the gallery"):
        find_app("describe").parse({"image": str(secret)}, session, lookup)
    with pytest.raises(BadBrief, match="no such picture in the gallery"):
        find_app("paint").parse({"prompt": f"{secret} a cat"}, session, lookup)


def test_progress_tells_steps_and_shows_a_preview() -> None:
    events: list[Progress] = []
    danqing.paint("a cat", painter=Toy(), count=2, seed=1, progress=events.append)
    assert [event.step for event in events] == list(range(1, 7))
    assert {event.of for event in events} == {6}
    assert events[-1].done
    preview = events[0].preview
    assert preview is not None
    look = preview()
    assert look.shape[1] == 3
    assert torch.all((look >= 0) & (look <= 1))


def test_what_progress_raises_cancels_and_frees_the_session() -> None:
    session = Session.of(Toy())

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.paint("a cat", progress=stop)
    assert len(session.paint("a cat", seed=1)) == 1


def test_pictures_come_one_by_one() -> None:
    session, app = Session.of(Toy()), find_app("paint")
    stream = session.stream(app, app.parse({"prompt": "a cat", "count": 3, "seed": 1}, session))
    first = next(stream)
    assert first.brief.seed == 1
    assert [picture.brief.seed for picture in stream] == [2, 3]


def test_a_picture_shows_itself_in_a_notebook() -> None:
    [picture] = danqing.paint("a cat", painter=Toy(), seed=1)
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_a_session_for_a_server_knows_no_paths(tmp_path: Path) -> None:
    place = model_folder(tmp_path / "models" / "mine")
    session = NamedSession(models=tmp_path / "models")
    assert session.card("mine") is not None
    for path in (str(place), "../models/mine", "mine/../mine", "./mine"):
        with pytest.raises(BadBrief, match="unknown model"):
            session.card(path)
    other = tmp_path / "x.safetensors"
    other.touch()
    for prompt in (
        f"a cat <lora:{other}:1>",
        f"a cat <lora:{str(other)[:-5]}{{{str(other)[-5:]}|{str(other)[-5:]}}}:1>",
    ):
        with pytest.raises(BadBrief, match="unknown adapter"):
            session.paint(prompt, model="mine", steps=1, seed=1)
