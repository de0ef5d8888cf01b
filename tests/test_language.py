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
from danqing.core.errors import BadWeights, unknown
from danqing.core.needs import Needs
from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli.language import language_of
from danqing.interfaces.cli.reference import FILES, reference
from danqing.weights.tensor_files import read_tensors

ROOT = Path(danqing.__file__).parent
DOCS = ROOT.parent.parent / "docs"
SPOKEN = ("apps", "core", "conditioning", "interfaces/cli")
"""Packages whose notes, and what is wrong with a value, reach the user as they are."""
SAID = {"ValueError", "add_notes", "note", "failure", "_complain"}
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in ROOT.rglob("*.py")}
CHINESE = catalogue("zh").messages


def templates(node: ast.expr) -> Iterator[str]:
    """The messages that an expression makes, with {} for what they name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from templates(node.body)
        yield from templates(node.orelse)


def name_of(node: ast.expr) -> str:
    return str(getattr(node, "id", getattr(node, "attr", "")))


def errors() -> set[str]:
    """DanqingError and all that is derived from it, wherever it stands."""
    classes = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    names, before = {"DanqingError"}, set[str]()
    while names != before:
        before = set(names)
        names |= {node.name for node in classes if before & set(map(name_of, node.bases))}
    return names


def messages() -> Iterator[str]:
    """Every message that has words of its own: of all errors, and of what else the spoken packages say."""
    raised = errors()
    for place, tree in TREES.items():
        said = raised | SAID if place.startswith(SPOKEN) else raised
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = name_of(call.func)
            found = call.args if name in said else []
            found += [word.value for word in call.keywords if (name, word.arg) == ("Progress", "note")]
            texts = (text for argument in found for text in templates(argument))
            yield from (text for text in texts if re.search("[a-z] | [a-z]", text.replace("{}", "")))


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


def test_the_errors_of_all_packages_are_looked_for() -> None:
    assert {"BadBrief", "BadWeights", "UnsupportedFormat", "QueueFull"} <= errors()
    found = set(messages())
    assert "{} is truncated or not safetensors ({}): fetch it again" in found
    assert "learning needs {}" in found
    assert len(found) > 390


@pytest.mark.parametrize(
    ("content", "chinese"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1",
            "是 git-lfs 的指针，不是权重：请在来处运行 git lfs pull",
        ),
        (b"GGUF....", "是 GGUF：请获取同一模型的 safetensors"),
        (b"<html>", "是 网页：请在来处登录后重新获取"),
        (b"nothing", "不完整或不是 safetensors（"),
        (None, "没有 '"),
    ],
)
def test_what_is_wrong_with_weights_is_said_in_chinese(
    tmp_path: Path, content: bytes | None, chinese: str
) -> None:
    file = tmp_path / "a.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadWeights) as caught:
        read_tensors(file)
    assert chinese in catalogue("zh").translate(str(caught.value))


def test_what_long_work_needs_is_said_in_chinese() -> None:
    text = f"learning needs {Needs(380, 2**30, 9)}"
    assert catalogue("zh").translate(text) == "学习需要约 6 min、内存 1.0 GiB、磁盘 9 bytes"


def test_every_help_text_has_a_translation() -> None:
    texts = set(prose(get_command(cli._app()))) | set(cli.commands().values())
    for name in cli.commands():
        texts |= set(prose(cli._load(name)))
    assert sorted(text for text in texts if text not in CHINESE) == []


def test_paragraphs_of_help_fill_their_lines(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A line of the source is none of the terminal."""
    monkeypatch.setenv("COLUMNS", "70")
    assert cli.run(["--help"]) == 0
    lines = [line.strip() for line in capfd.readouterr().out.splitlines()]
    first = next(k for k, line in enumerate(lines) if "tells what each command takes" in line)
    paragraph = lines[first : lines.index("", first)]
    assert " ".join(paragraph).endswith("130 cancelled.")
    after = [line.split()[0] for line in paragraph[1:]]
    assert all(len(f"{line} {word}") > 68 for line, word in zip(paragraph, after, strict=False))


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
    more = f"{unknown('model', 'sdd', ['gan', 'sd'])}, or give a folder of weights or a .safetensors file"
    expected = "没有 model 'sdd'：是不是 'sd'？可选 gan, sd，或给权重文件夹或 .safetensors 文件"
    assert catalogue("zh").translate(more) == expected
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


def test_commands_speak_chinese(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
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
