"""What danqing says in Chinese is complete like English, and the reference of commands is what they say."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.core import TyperGroup
from typer.main import get_command

import danqing
from danqing.core.catalogue import Catalogue, catalogue, fill, languages
from danqing.core.errors import unknown
from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli.language import language_of
from danqing.interfaces.cli.reference import FILES, reference

ROOT = Path(danqing.__file__).parent
DOCS = ROOT.parent.parent / "docs"
SPOKEN = ("apps", "core", "conditioning", "interfaces/cli")
"""Packages whose messages are all in the catalogue; those about training and damaged weights are English."""
ERRORS = {"BadBrief", "BadPicture", "BadData", "NotFinite", "DanqingError", "ValueError"}
CHINESE = catalogue("zh").messages


def template(node: ast.expr) -> str | None:
    """The message that an expression makes, with {} for what it names."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def messages() -> Iterator[str]:
    """Every message of the spoken packages that has words of its own."""
    for package in SPOKEN:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in ERRORS or name in ("noted", "note", "failure", "_complain"):
                    found = [text for argument in node.args if (text := template(argument))]
                    yield from (text for text in found if re.search("[a-z]", text.replace("{}", "")))


def prose(command: Any) -> Iterator[str]:
    """Everything that the help of a command says, but examples and values."""
    for part in (command.help or "").split("\n\n"):
        words = " ".join(part.split()).replace("\\[", "[")
        if words and not words.startswith(("danqing ", "[b]")):
            yield words
    yield from (parameter.help for parameter in command.params if getattr(parameter, "help", None))
    for part in getattr(command, "commands", {}).values() if isinstance(command, TyperGroup) else ():
        yield from prose(part)


def test_every_message_has_a_translation() -> None:
    assert sorted({text for text in messages() if text not in CHINESE}) == []


def test_every_help_text_has_a_translation() -> None:
    texts = set(prose(get_command(cli._app()))) | set(cli.commands().values())
    for name in cli.commands():
        texts |= set(prose(cli._load(name)))
    assert sorted(text for text in texts if text not in CHINESE) == []


def test_translations_name_what_the_messages_name() -> None:
    for english, chinese in CHINESE.items():
        places = re.findall(r"\{(\d*)\}", chinese)
        assert len(places) == english.count("{}"), english
        assert not any(places) or sorted(map(int, places)) == list(range(len(places))), english


@given(st.lists(st.text(st.characters(exclude_characters="{}")), max_size=4))
def test_filling_keeps_every_part(parts: list[str]) -> None:
    assert fill("|".join(["{}"] * len(parts)), parts) == "|".join(parts)


def test_messages_within_messages_are_translated() -> None:
    english = "a.txt line 3: " + unknown("style", "3dd", ["3d", "flat"])
    assert catalogue("zh").translate(english) == "a.txt line 3：没有 style '3dd'：是不是 '3d'？可选 3d, flat"
    assert catalogue("zh").translate("what is this?") == "what is this?"
    assert Catalogue({}).translate("a") == catalogue("en").translate("a") == "a"
    assert languages() == ["en", "zh"]


@pytest.mark.parametrize(
    ("argv", "environment", "language"),
    [
        ([], {}, "en"),
        ([], {"LANG": "zh_CN.UTF-8"}, "zh"),
        ([], {"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ([], {"LANG": "zh_CN.UTF-8", "DANQING_LANG": "en"}, "en"),
        (["paint", "--lang", "zh"], {}, "zh"),
        (["--lang=en"], {"DANQING_LANG": "zh"}, "en"),
        (["paint", "--", "--lang", "zh"], {}, "en"),
    ],
)
def test_the_language_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    argv: list[str],
    environment: dict[str, str],
    language: str,
) -> None:
    monkeypatch.setenv("DANQING_CONFIG", str(tmp_path / "none.toml"))
    assert language_of(argv, environment) == language


def test_commands_speak_chinese(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd) -> None:
    monkeypatch.setenv("DANQING_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.chdir(tmp_path)
    for line, words in (
        ("paint a --steps 0 --lang zh", "steps 0 太小：请用 1 或更大"),
        ("--lang zh show none.png", "没有图：请检查名字"),
        ("redraw none.png a --lang=zh", "'none.png' 没有图：请检查名字"),
        ("paint --lang zh", "缺少参数 'PROMPT...'（见 danqing paint --help）"),
    ):
        assert cli.run(line.split()) in (1, 2)
        assert words in capfd.readouterr().err
    assert cli.run(["inpaint", "--help", "--lang", "zh"]) == 0
    assert "重画图的一部分；其余逐字节不变。" in capfd.readouterr().out
    assert cli.run(["paint", "a", "--lang", "fr"]) == 2
    assert "setting language 'fr'" in capfd.readouterr().err
    (tmp_path / "config.toml").write_text('language = "zh"\n')
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "DANQING_LANG"):
        monkeypatch.delenv(name, raising=False)
    assert cli.run(["show", "none.png"]) == 1
    assert "请检查名字" in capfd.readouterr().err
    assert os.environ.get("DANQING_LANG") is None


@pytest.mark.parametrize("language", FILES)
def test_the_reference_in_the_docs_is_what_the_commands_say(language: str) -> None:
    """Else run: python -m danqing.interfaces.cli.reference docs."""
    assert (DOCS / FILES[language]).read_text("utf-8") == reference(language)
