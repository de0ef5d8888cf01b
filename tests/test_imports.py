"""The one arrow between packages, and imports that do nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import danqing

ROOT = Path(danqing.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
BESIDE = {"training", "data", "evaluation"}  # these may use each other
LAYERS = [
    {"interfaces"},
    {"studio"},
    {"apps"},
    {"recipes"},
    {"tuning"},
    BESIDE,
    {"families"},
    {"execution"},
    {"weights"},
    {"diffusion"},
    {"conditioning"},
    {"nets"},
    {"effects"},
    {"photos"},
    {"core"},
]
RANK = {package: rank for rank, layer in enumerate(LAYERS) for package in layer}


def package_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "danqing" and len(parts) > 1 and parts[1] in RANK else None


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import from danqing..., not from dots"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(here: str, there: str) -> bool:
    return here == there or RANK[here] < RANK[there] or {here, there} <= BESIDE


def test_packages_import_only_to_the_right() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in FILES
        if (here := package_of(".".join(("danqing", *path.relative_to(ROOT).parts)))) is not None
        for module in imports(path)
        if (there := package_of(module)) is not None and not allowed(here, there)
    ]
    assert wrong == []


def test_every_package_has_its_place_in_the_arrow() -> None:
    packages = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert packages - set(RANK) <= {"zoo"}


def test_every_file_postpones_annotations() -> None:
    late = [
        path.name
        for path in FILES
        if "import annotations" not in (text := path.read_text()) and "def " in text
    ]
    assert late == []


QUIET = """
import sys
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.mkdir") or (
        event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    ):
        sys.exit(f"an import did {event} {args}")
sys.dont_write_bytecode = True
sys.argv = None
sys.addaudithook(watch)
"""


def python(code: str) -> str:
    """What `code` prints in a fresh interpreter."""
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(ROOT.parent), "HF_HUB_OFFLINE": "1", "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_light_half_imports_alone_and_quietly() -> None:
    """Needs no torch, argv, network or writing: core's plain types and the whole command line."""
    light = [f"danqing.core.{name}" for name in ("brief", "card", "errors", "files", "metadata", "picture")]
    light += [
        f"danqing.interfaces.cli.{path.stem}" for path in (ROOT / "interfaces" / "cli").glob("[a-z]*.py")
    ]
    loads = "".join(f"import {module}\n" for module in ["danqing", *light])
    heavy = "print(sorted({'torch', 'transformers', 'diffusers', 'numpy'} & set(sys.modules)))"
    assert python(QUIET + loads + heavy).strip() == "[]"


OFFLINE = """
import sys
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        sys.exit(f"an import did {event} {args}")
sys.addaudithook(watch)
sys.argv = ["something", "--else"]
"""


def test_every_module_imports_without_argv_and_network() -> None:
    names = [".".join(("danqing", *path.relative_to(ROOT).with_suffix("").parts)) for path in FILES]
    loads = "".join(f"import {name.removesuffix('.__init__')}\n" for name in names if "__main__" not in name)
    assert python(OFFLINE + loads + "print('done')").endswith("done\n")


def test_the_public_names_are_there() -> None:
    assert python("import danqing, sys; print('torch' in sys.modules, *dir(danqing))").split()[0] == "False"
    assert danqing.Brief.of("a cat").prompt == "a cat"
    assert all(getattr(danqing, name) for name in danqing.__all__)
