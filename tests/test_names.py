"""Plain names: no participle stands for a value, no poetry; private modules stay within their package."""

from __future__ import annotations

import ast
import re
import tokenize
from collections import Counter
from pathlib import Path

import danqing

ROOT = Path(danqing.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FORBIDDEN = {
    *("told", "said", "asked", "seen", "given", "wished", "found", "known", "shown", "dressed", "heard"),
    *("meant", "spoken", "wanted", "wearing", "laid"),
    *(
        "sitting",
        "sittings",
        "easel",
        "looking",
        "looker",
        "eyes",
        "taste",
        "opinion",
        "duel",
        "critic",
        "kick",
        "tower",
        "walker",
        "steering",
        "enlarger",
    ),
}
SEVERAL = {  # public classes of one name in several modules: apps and their outputs; what a dialect calls so
    *("Edit", "Generation", "Lineage", "Search", "Adapter", "Client", "Change", "Report", "Run", "Entry"),
    *("Denoiser", "Fast", "Limits", "Part", "Role", "Sampling", "Verdict"),
}


def test_no_name_is_a_participle_or_poetry() -> None:
    """A value is called by what it is: output, caption, pixels, metadata."""
    names: Counter[str] = Counter()
    for path in FILES:
        with path.open("rb") as file:
            tokens = [
                token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.NAME
            ]
        here = str(path.relative_to(ROOT))
        names.update(f"{here}: {token}" for token in tokens if token.strip("_").lower() in FORBIDDEN)
        names.update(f"{here}: its own name" for _ in FORBIDDEN & set(path.stem.split("_")))
    assert dict(names) == {}


def test_functions_are_called_by_verbs_or_nouns() -> None:
    """`resize`, not `resized`: a participle alone is neither what is done nor what comes out."""
    found = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and re.fullmatch(r"_?[a-z]+ed", node.name)
        and not node.name.endswith(("eed", "embed"))
    ]
    assert found == []


def test_a_class_name_means_one_thing() -> None:
    """A public class has a name of its own; the exceptions are listed, and the list only gets shorter."""
    homes: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    shared = {name: places for name, places in homes.items() if len(places) > 1}
    assert {name: places for name, places in shared.items() if name not in SEVERAL} == {}
    assert sorted(SEVERAL - set(shared)) == []


def test_private_modules_stay_within_their_package() -> None:
    """`danqing.a._b` is imported below `danqing.a` only."""
    wrong = []
    for path in FILES:
        package = ".".join(("danqing", *path.relative_to(ROOT).parts[:-1]))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            home = module.partition("._")[0]
            private = "._" in module
            if private and not package.startswith(home):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert wrong == []
