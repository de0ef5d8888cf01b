"""Generates the reference of all commands, docs/cli.md and docs/cli.zh-CN.md, from the commands' help texts.

python -m danqing.interfaces.cli.reference docs
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.core import TyperArgument, TyperGroup
from typer.main import get_command

from danqing.interfaces.cli import main as program
from danqing.interfaces.cli.language import localize, say, use_language

FILES = {"en": "cli.md", "zh": "cli.zh-CN.md"}
INTRODUCTIONS = {
    "en": """# The command line

Made by `python -m danqing.interfaces.cli.reference docs`; [中文](cli.zh-CN.md).

Results are on stdout, a path a line, the grid of several pictures last; all else is on stderr. `--json`
gives an object for each result instead: `path`, `seed`, `width`, `height`, `seconds`, `model`, `grid`,
`warnings`. `--quiet` leaves only errors. `-` is standard input for a prompt, a picture or `--from-file`,
and `--out -` writes one picture to stdout. Several pictures, or a folder/, in front of the words are
worked on one by one with one model. `--device`, `--backend` and `--lang` may stand before or behind the
command.

| Exit code | Meaning |
|---|---|
| 0 | done |
| 1 | a file, weights or the machine cannot |
| 2 | the request is wrong; nothing was begun |
| 130 | cancelled with Ctrl-C; what was finished is saved |
""",
    "zh": """# 命令行

由 `python -m danqing.interfaces.cli.reference docs` 生成；[English](cli.md)。

结果在标准输出，一行一个路径，几张图的宫格在最后；其余都在标准错误。
`--json` 改为每个结果一个对象：`path`、`seed`、`width`、`height`、`seconds`、`model`、`grid`、`warnings`。
`--quiet` 只留下错误。`-` 是标准输入：提示词、图或 `--from-file`；`--out -` 把一张图写到标准输出。
写在文字前面的几张图或一个文件夹/，用一个模型逐张处理。
`--device`、`--backend` 和 `--lang` 写在命令前后都可以。

| 退出码 | 含义 |
|---|---|
| 0 | 完成 |
| 1 | 文件、权重或机器不行 |
| 2 | 请求有误；什么也没有开始 |
| 130 | 用 Ctrl-C 取消；已完成的都存好了 |
""",
}


def reference(language: str) -> str:
    """The reference of all commands in Markdown, in English or Chinese."""
    with use_language(language):
        root = localize(get_command(program._app()))
        parts = [INTRODUCTIONS[language], f"## {say('Everywhere')}\n", _options(root)]
        for name in program.commands():
            parts += _command(f"danqing {name}", program._load(name))
    return "\n".join(parts).rstrip() + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    """Yield a section on a command, and one on each of its sub-commands."""
    parts = getattr(command, "commands", {}) if isinstance(command, TyperGroup) else {}
    yield f"## {name}\n" if name.count(" ") == 1 else f"### {name}\n"
    prose, examples = _split(command.help or "")
    yield "".join(f"{paragraph}\n\n" for paragraph in prose).rstrip("\n") + "\n"
    if not parts:
        arguments = [p.metavar or p.name for p in command.params if isinstance(p, TyperArgument)]
        yield f"`{' '.join([name, *arguments])}`\n"
        yield _options(command)
    if examples:
        yield "\n".join(["```sh", *examples, "```", ""])
    for part, inner in parts.items():
        yield from _command(f"{name} {part}", inner)


def _split(text: str) -> tuple[list[str], list[str]]:
    """Split a help text into its prose and its example commands."""
    paragraphs = [" ".join(part.split()).replace("\\[", "[") for part in text.split("\n\n")]
    examples = [part for part in paragraphs if part.startswith("danqing ")]
    prose = [part for part in paragraphs if part and part not in examples and not part.startswith("[b]")]
    return [part.replace("<", "\\<") for part in prose], examples


def _options(command: Any) -> str:
    """A table of a command's arguments and options."""
    heads = " | ".join(map(say, ("Option", "What it does", "Without it")))
    rows = [f"| {heads} |", "|---|---|---|"]
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            flags = f"`{parameter.metavar or parameter.name}`"
        else:
            flags = ", ".join(f"`{flag}`" for flag in parameter.opts)
        default = parameter.show_default if isinstance(parameter.show_default, str) else ""
        help = (parameter.help or "").replace("|", "\\|").replace("<", "\\<").replace("\\[", "[")
        rows.append(f"| {flags} | {help} | {default} |")
    return "\n".join([*rows, ""])


def write(folder: Path) -> None:
    """Write the reference in all languages into a folder."""
    for language, name in FILES.items():
        (folder / name).write_text(reference(language), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
