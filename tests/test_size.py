"""Small functions, short files, few parameters: measured, not argued."""

from __future__ import annotations

import ast
from pathlib import Path

import danqing

ROOT = Path(danqing.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
FUNCTIONS = {
    f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": node
    for path, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
}


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


def test_functions_are_short() -> None:
    lengths = sorted(map(length, FUNCTIONS.values()))
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 35
    assert [name for name, node in FUNCTIONS.items() if length(node) > 60] == []


def test_files_are_short() -> None:
    lines = {path.relative_to(ROOT): path.read_text(encoding="utf-8").count("\n") for path in FILES}
    assert {name: count for name, count in lines.items() if count > 320} == {}


def test_functions_take_few_parameters() -> None:
    many = {}
    for name, node in FUNCTIONS.items():
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        names = [argument.arg for argument in given if argument.arg not in ("self", "cls")]
        if len(names) > 8:
            many[name] = len(names)
    assert many == {}
