"""The documents keep their word: commands parse and paint, Python compiles and runs, links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command

from danqing.apps._session import Session
from danqing.core.card import Card, read_card
from danqing.data.captions import STYLE_WORDS
from danqing.interfaces.cli import main as cli
from danqing.weights.shipped import shipped_models
from tests.toy import CARD, Toy

ROOT = Path(__file__).parent.parent
PLACES = ("*.md", "docs/**/*.md", "recipes/*.md", "src/danqing/zoo/**/*.md")
DOCS = sorted(path for place in PLACES for path in ROOT.glob(place))
READMES = [path for path in DOCS if path.parent == ROOT and path.name.startswith("README")]
SHELLS = ("sh", "bash", "shell", "console")
OPERATORS = {"&&", "||", "|", ";", "&", ">", ">>"}

every_document = pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
every_readme = pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)


class Block(NamedTuple):
    """A fenced block: its language, and its text on the lines where the document has it."""

    language: str
    text: str


def blocks(text: str, *languages: str) -> list[Block]:
    found = re.finditer(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    made = [Block(match[1], "\n" * text.count("\n", 0, match.start(2)) + match[2]) for match in found]
    return [block for block in made if block.language in languages]


def prose(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Every simple command in the shell blocks, split as a shell would."""
    lines = "\n".join(block.text for block in blocks(text, *SHELLS)).replace("\\\n", " ").splitlines()
    return [command for line in lines for command in _simple(line.strip().removeprefix("$ "))]


def _simple(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in OPERATORS:
            words.append(word)
        elif words:
            yield words
            words = []


def ours(text: str) -> list[list[str]]:
    """The arguments of every `danqing` command, told directly or by `make paint`."""
    found = [words[1:] for words in commands(text) if Path(words[0]).name == "danqing"]
    for words in commands(text):
        if words[:2] == ["make", "paint"]:
            given = dict(word.split("=", 1) for word in words[2:])
            found.append(["paint", *shlex.split(given.get("ARGS", "")), "--", given["PROMPT"]])
    return found


def mentioned(text: str) -> list[list[str]]:
    """The same of commands in the middle of a sentence, which may leave things out."""
    return [shlex.split(found) for found in re.findall(r"`danqing ([^`]+)`", prose(text))]


def parse(command: Any, name: str, argv: Sequence[str]) -> None:
    """Let the real command line read `argv` without doing it."""
    context = command.make_context(name, list(argv))
    rest = [*context._protected_args, *context.args]
    if isinstance(command, TyperGroup) and rest:
        inner, found, rest = command.resolve_command(context, rest)
        parse(found, str(inner), rest)


def refused(argv: Sequence[str]) -> str | None:
    """Why the command line does not take `argv`; None if it does."""
    if argv[:1] == ["--install-completion"]:  # it would do it
        return None
    try:
        parse(get_command(cli._app()), "danqing", argv)
    except typer.Exit:  # --help and --version are done
        return None
    except typer.TyperException as error:
        return f"danqing {shlex.join(argv)}: {error.format_message()}"
    return None


def links(text: str) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)|(?:src|href)=\"([^\"]+)\"", prose(text))
    every = [one or other for one, other in found]
    return [link for link in every if not re.match(r"[a-z]+:", link)]


def anchors(path: Path) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = re.findall(r"^#+ +(.*?) *$", prose(path.read_text("utf-8")), re.MULTILINE)
    kept = [
        "".join(c for c in head.lower() if c in " -_" or unicodedata.category(c)[0] in "LMN")
        for head in headings
    ]
    return {head.replace(" ", "-") for head in kept}


def leads_nowhere(path: Path, link: str) -> bool:
    target, _, anchor = link.partition("#")
    place = (path.parent / target).resolve() if target else path
    return not place.exists() or bool(anchor and place.suffix == ".md" and anchor not in anchors(place))


def missing_names(code: str) -> list[str]:
    """What `code` imports from danqing, or takes from `danqing.`, and is not there."""
    wanted = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "danqing":
            wanted += [(str(node.module), alias.name) for alias in node.names]
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "danqing"
        ):
            wanted.append(("danqing", node.attr))
    return [f"{module}.{name}" for module, name in wanted if not hasattr(import_module(module), name)]


@pytest.fixture
def stickers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """An empty folder where every model is a toy that claims the sizes and the styles of the shipped one."""
    size = {"name": "stickers", "width": 128, "height": 128, "size_multiple": 32, "scale": 4}
    styles = {name: "/".join(words) for name, words in STYLE_WORDS.items()}
    known = shipped_models().get("stickers")
    card = read_card(known) if known else CARD.model_copy(update={**size, "styles": styles})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Session, "card", lambda *_: card)
    monkeypatch.setattr("danqing.families.open_painter", lambda *_: Toy(card))
    return card


@every_document
def test_commands_are_taken_by_the_command_line(path: Path) -> None:
    text = path.read_text("utf-8")
    assert [why for argv in ours(text) if (why := refused(argv))] == []
    assert [why for argv in mentioned(text) if (why := refused(argv)) and ": Missing " not in why] == []


@every_readme
@pytest.mark.usefixtures("stickers")
def test_commands_paint(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = 0
    for argv in ours(path.read_text("utf-8")):
        if any("<" in word for word in argv):  # names what `danqing learn` would have taught
            continue
        if argv[0] == "paint" or (argv[0] == "show" and Path(argv[1]).exists()):
            assert cli.run(argv) == 0, f"danqing {shlex.join(argv)}: {capfd.readouterr().err}"
            done += 1
    assert done > 0


@every_document
def test_make_has_the_targets_and_python_the_programs(path: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = commands(path.read_text("utf-8"))
    made = {word for words in found if words[0] == "make" for word in words[1:] if "=" not in word}
    programs = {name for words in found if words[0].startswith("python") for name in words[1:2]}
    assert made - targets == set()
    assert [name for name in programs if name.endswith(".py") and not (ROOT / name).is_file()] == []


@every_document
def test_python_compiles_and_names_what_exists(path: Path) -> None:
    for block in blocks(path.read_text("utf-8"), "python", "py"):
        compile(block.text, str(path), "exec")
        assert missing_names(block.text) == []


@every_readme
@pytest.mark.usefixtures("stickers")
def test_python_runs(path: Path) -> None:
    shared: dict[str, Any] = {}
    for block in blocks(path.read_text("utf-8"), "python"):
        exec(compile(block.text, str(path), "exec"), shared)
    if "same" in shared:  # the one of which the text says "pixel for pixel"
        assert shared["same"].image.tobytes() == shared["picture"].image.tobytes()


@every_document
def test_links_lead_somewhere(path: Path) -> None:
    assert [link for link in links(path.read_text("utf-8")) if leads_nowhere(path, link)] == []


@every_document
def test_files_named_in_passing_exist(path: Path) -> None:
    named = re.findall(
        r"`((?:src|tests|recipes|benchmarks|docs|\.ci)/[\w./-]*)`", prose(path.read_text("utf-8"))
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_both_readmes_and_their_neighbours_are_there() -> None:
    assert {path.name for path in READMES} == {"README.md", "README.zh-CN.md"}
    for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "NOTICE"):
        assert (ROOT / name).is_file()


BAD = """
# A title, with 标点！

```sh
pip install . && danqing paint "a cat" --stlye 3d   # a comment
make paint PROMPT="a cat" ARGS="--count 4 --sed 7"
danqing pant "a cat"
danqing paint "a cat" --seed \\
  7 --background #ff0000
danqing data stickers out --sice 3
danqing --help | less
danqing paint "fine" --count 2
make nothing
```

```python
import danqing
danqing.pant("a cat")
```

See `danqing show`, `danqing data`, `danqing evaluate --dta x` and `danqing shew`.

[a](nowhere.md) [b](#a-title-with-标点) [c](#no) [![d](d.png)](https://example.org)
"""


@pytest.mark.parametrize(
    ("check", "found"),
    [
        (
            lambda text, _: [bool(refused(argv)) for argv in ours(text)],
            [True, True, True, True, False, False, True],
        ),
        (
            lambda text, _: [": Missing" in (refused(argv) or "") for argv in mentioned(text)],
            [True, False, False, False],
        ),
        (lambda text, _: missing_names(blocks(text, "python")[0].text), ["danqing.pant"]),
        (
            lambda text, path: [link for link in links(text) if leads_nowhere(path, link)],
            ["nowhere.md", "#no", "d.png"],
        ),
        (
            lambda text, _: blocks(text, "python")[0].text.index("import"),
            BAD[: BAD.index("import")].count("\n"),
        ),
    ],
    ids=["commands", "mentioned", "names", "links", "lines"],
)
def test_a_wrong_document_is_caught(
    tmp_path: Path, check: Callable[[str, Path], object], found: object
) -> None:
    path = tmp_path / "bad.md"
    path.write_text(BAD, "utf-8")
    assert check(BAD, path) == found
