"""The page by its files alone: small, of one host, without inline code, the same in both languages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import danqing
from danqing.apps import _registry as registry
from danqing.core.card import Can, read_card
from danqing.weights.shipped import shipped_models

WEB = Path(danqing.__file__).parent / "interfaces" / "web"
STATIC = WEB / "static"
FILES = sorted(path for path in STATIC.rglob("*") if path.is_file())
LATER = ("accounts", "boards", "canvas", "learn")  # folders of what is loaded when someone opens it
MODULES = [path for path in FILES if path.suffix == ".js"]
TEXTS = {path: path.read_text("utf-8") for path in FILES if path.suffix not in (".webp", ".png")}
EN, ZH, SERVER = (
    json.loads(TEXTS[STATIC / "languages" / name]) for name in ("en.json", "zh.json", "server.zh.json")
)


def imports(path: Path) -> set[Path]:
    """The modules that a module names in its import lines."""
    names = re.findall(r"^(?:import|export) (?:.* from )?\"(\.[^\"]+)\"", TEXTS[path], re.MULTILINE)
    names += re.findall(r"import\(\"(\.[^\"]+\.js)\"\);", TEXTS[path])  # loaded when it is needed
    return {(path.parent / name).resolve() for name in names}


def test_the_page_is_small() -> None:
    """All that a browser loads before the first picture, in either language and without compression."""
    sizes = {path: len(text.encode()) for path, text in TEXTS.items() if path.parent.name not in LATER}
    for others in (["zh.json", "server.zh.json"], ["en.json"]):
        assert sum(size for path, size in sizes.items() if path.name not in others) <= 250_000
    pictures = [path for path in FILES if path.suffix == ".webp"]
    assert sum(path.stat().st_size for path in pictures) <= 200_000


def test_modules_are_short_and_all_are_used() -> None:
    assert {
        path.name: n for path, text in TEXTS.items() if path in MODULES and (n := text.count("\n")) > 250
    } == {}
    reached, waiting = set(), [STATIC / "app.js"]
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting += imports(path) - reached
    assert sorted(reached) == MODULES


def test_each_module_is_preloaded() -> None:
    """So that a browser need not find them one behind the other."""
    wanted = {f"/static/{path.relative_to(STATIC)}" for path in MODULES if path.parent.name not in LATER}
    wanted -= {"/static/app.js"}
    assert set(re.findall(r'rel="modulepreload" href="([^"]+)"', TEXTS[STATIC / "index.html"])) == wanted


def test_each_style_sheet_is_linked() -> None:
    sheets = {f"/static/styles/{path.name}" for path in FILES if path.suffix == ".css"}
    assert set(re.findall(r'rel="stylesheet" href="([^"]+)"', TEXTS[STATIC / "index.html"])) == sheets


def test_nothing_is_asked_of_another_host() -> None:
    urls = {
        url
        for text in TEXTS.values()
        for url in re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z][^\s\"'`)]*", text)
    }
    assert urls <= {"http://www.w3.org/2000/svg"}


def test_no_code_and_no_style_is_inline() -> None:
    page = TEXTS[STATIC / "index.html"]
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\son\w+=|\sstyle=|javascript:", page) == []
    banned = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(.style"
    )
    assert {path.name: found for path in MODULES if (found := re.findall(banned, TEXTS[path]))} == {}
    assert [
        path.name
        for path, text in TEXTS.items()
        if path.suffix == ".css" and re.search(r"@import|url\(", text)
    ] == []


def test_both_languages_have_the_same_words() -> None:
    assert EN.keys() == ZH.keys()
    gaps = {key: (EN[key], ZH[key]) for key in EN if _gaps(EN[key]) != _gaps(ZH[key])}
    assert gaps == {}
    assert [key for key in EN if not EN[key].strip() or not ZH[key].strip()] == []


def _gaps(text: str) -> list[str]:
    return sorted(re.findall(r"\{\w+\}", text))


def test_each_word_of_the_page_is_there_and_none_is_idle() -> None:
    code = "\n".join(TEXTS[path] for path in MODULES)
    literal = set(re.findall(r"\bt\(\"([^\"]+)\"", code))
    assert literal - EN.keys() == set()
    quoted = set(re.findall(r"\"([a-z][\w.-]*)\"", code))
    prefixes = tuple(re.findall(r"\bt\(`([a-z.-]+\.)\$", code))
    assert [key for key in EN if key not in literal | quoted and not key.startswith(prefixes)] == []


def test_each_app_skill_and_group_has_a_name() -> None:
    schemas = {name: registry.find_app(name).schema() for name in registry.names()}
    groups = {entry["group"] for schema in schemas.values() for entry in schema["properties"].values()}
    wanted = (
        {f"app.{name}" for name in schemas}
        | {f"can.{can}" for can in Can}
        | {f"group.{name}" for name in groups}
    )
    assert wanted - EN.keys() == set()


def test_what_the_server_says_in_forms_is_known_in_chinese() -> None:
    """Titles, hints, units and choices of all apps, and what the models are."""
    texts = set()
    for name in registry.names():
        app = registry.find_app(name)
        texts.add(app.help)
        for entry in app.schema()["properties"].values():
            texts |= {entry["title"], entry["description"], entry.get("unit", entry["title"])}
            texts |= {
                str(choice) for part in (entry, *entry.get("anyOf", [])) for choice in part.get("enum", [])
            }
    texts |= {
        read_card(place).summary for place in shipped_models().values() if (place / "card.json").exists()
    }
    assert sorted(texts - SERVER.keys()) == []


def test_twelve_examples_have_pictures() -> None:
    examples = json.loads(TEXTS[STATIC / "examples" / "examples.json"])
    assert len(examples) == 12
    for example in examples:
        with Image.open(STATIC / "examples" / f"{example['name']}.webp") as picture:
            assert picture.size == (320, 320)
        assert example["prompt"]
        assert example["seed"] >= 0


def test_types_hold() -> None:
    """`tsc --checkJs`, where it is installed: a contributor's tool, which no user needs."""
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("TYPES OF THE PAGE NOT CHECKED: no tsc here; npm install --global typescript")
    done = subprocess.run(
        [tsc, "--project", str(WEB / "tsconfig.json")], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
    assert done.returncode == 0
