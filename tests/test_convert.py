"""Pickles of weights become safetensors; a payload never runs."""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib
import io
import json
import multiprocessing
import operator
import os
import pickle
import pkgutil
import runpy
import shutil
import subprocess
import sys
import types
import webbrowser
import zipfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from danqing.core.errors import BadBrief, BadWeights
from danqing.interfaces.cli.main import run
from danqing.weights import _unpickle, pickles
from danqing.weights.pickles import convert_pickle

CANARY = "canary"


class Payload:
    """What calls `function` when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.made = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


class WithState:
    def __reduce__(self) -> tuple[Any, ...]:
        return (types.SimpleNamespace, (), {"a": Payload(os.system, f"touch {CANARY}")})


CODE = f"open({CANARY!r}, 'w')"
PAYLOADS = {
    "os.system": Payload(os.system, f"touch {CANARY}"),
    "subprocess.Popen": Payload(subprocess.Popen, ["touch", CANARY]),
    "subprocess.check_output": Payload(subprocess.check_output, ["touch", CANARY]),
    "eval": Payload(eval, CODE),
    "exec": Payload(exec, CODE),
    "open": Payload(open, CANARY, "w"),
    "io.FileIO": Payload(io.FileIO, CANARY, "w"),
    "os.open": Payload(os.open, CANARY, os.O_CREAT | os.O_WRONLY),
    "os.mkdir": Payload(os.mkdir, CANARY),
    "os.symlink": Payload(os.symlink, "photo", CANARY),
    "shutil.copy": Payload(shutil.copy, "innocent.pt", CANARY),
    "Path.touch": Payload(Path.touch, Path(CANARY)),
    "pkgutil.resolve_name": Payload(pkgutil.resolve_name, "os:system"),
    "importlib.import_module": Payload(importlib.import_module, "antigravity"),
    "__import__": Payload(__import__, "antigravity"),
    "runpy.run_path": Payload(runpy.run_path, "payload.py"),
    "webbrowser.open": Payload(webbrowser.open, "http://127.0.0.1:1"),
    "functools.partial": Payload(functools.partial, os.system, f"touch {CANARY}"),
    "operator.methodcaller": Payload(operator.methodcaller, "touch"),
    "getattr": Payload(getattr, "text", "upper"),
    "map": Payload(map, os.system, [f"touch {CANARY}"]),
    "torch.hub.load": Payload(torch.hub.load, ".", "payload"),
    "torch.load": Payload(torch.load, "inner.pt", None, None),
    "torch.save": Payload(torch.save, {}, CANARY),
    "torch.jit.load": Payload(torch.jit.load, "inner.pt"),
    "numpy.save": Payload(np.save, CANARY, np.zeros(2)),
    "state": WithState(),
    "a defaultdict": collections.defaultdict(os.system),
    "inside a dict": {"state_dict": {"a": torch.ones(2), "b": Payload(os.system, f"touch {CANARY}")}},
    "a list of tensors": [torch.ones(2), Payload(os.system, f"touch {CANARY}")],
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "payload.py").write_text(CODE)
    torch.save({"a": torch.ones(2)}, tmp_path / "innocent.pt")
    torch.save(Payload(os.system, f"touch {CANARY}"), tmp_path / "inner.pt")


_FORK = multiprocessing.get_context("fork")


def read(
    source: str, draft: str = "draft.safetensors", seconds: int = 20, memory: int = 2**30
) -> dict[str, Any] | list[Any]:
    """What the program says of a file; it runs in a process of its own, without the seconds of a start."""
    here, there = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_read, args=(there, source, draft, str(seconds), str(memory)))
    process.start()
    there.close()
    text = ""
    with here, contextlib.suppress(EOFError):  # it was ended by its limits
        text = here.recv() if here.poll(60) else ""
    process.kill()
    process.join()
    return json.loads(text.splitlines()[-1]) if text.strip() else {"error": ""}


def _read(there: Connection, *arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        _unpickle.main(*arguments)
    there.send(output.getvalue())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", PAYLOADS)
def test_no_payload_runs(name: str, zipped: bool) -> None:
    torch.save(PAYLOADS[name], "bad.pt", _use_new_zipfile_serialization=zipped)
    report = read("bad.pt")
    assert "error" in report
    assert "no weights need" in pickles._reason(report["error"]) or "as weights" in pickles._reason(
        report["error"]
    )
    assert not os.path.lexists(CANARY)
    assert not os.path.lexists("draft.safetensors")


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_every_protocol(protocol: int) -> None:
    Path("bad.ckpt").write_bytes(pickle.dumps(Payload(os.system, f"touch {CANARY}"), protocol))
    assert "error" in read("bad.ckpt")
    assert not os.path.lexists(CANARY)


def test_after_an_honest_part() -> None:
    """A zip with two pickles, a pickle behind an honest one, an archive under another name."""
    torch.save({"a": torch.ones(2)}, "two.pt")
    with zipfile.ZipFile("two.pt", "a") as archive:
        archive.writestr("two/constants.pkl", pickle.dumps(Payload(os.system, f"touch {CANARY}")))
    read("two.pt")
    honest = io.BytesIO()
    torch.save({"a": torch.ones(2)}, honest, _use_new_zipfile_serialization=False)
    Path("behind.pt").write_bytes(honest.getvalue() + pickle.dumps(Payload(os.system, f"touch {CANARY}")))
    read("behind.pt")
    for start in (b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\x1f\x8b", b"", b"\x80"):
        Path("archive.bin").write_bytes(start + bytes(200))
        assert "error" in read("archive.bin")
    assert not os.path.lexists(CANARY)


def test_a_reader_that_is_wrong_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the restricted reader to run a payload, the process still may not."""
    unrestricted = functools.partial(torch.load, weights_only=False)
    monkeypatch.setattr(_unpickle.torch, "load", lambda path, **_: unrestricted(path))
    for name in ("os.system", "subprocess.Popen", "open", "os.mkdir", "os.symlink", "shutil.copy", "exec"):
        torch.save(PAYLOADS[name], "bad.pt")
        report = read("bad.pt")
        assert "tried" in report["error"], name
        assert "was stopped" in pickles._reason(report["error"])
        assert not os.path.lexists(CANARY)


def test_honest_files() -> None:
    """At the top, in state_dict, views that share memory, half precision; what is no tensor is named."""
    base = torch.arange(12.0).view(3, 4)
    tensors = {"a": base, "b": base.T, "c": base[1:], "d": torch.ones(3, dtype=torch.bfloat16)}
    files = {
        "top.pt": tensors,
        "inside.ckpt": {"epoch": 3, "state_dict": {**tensors, "step": 7}, "lr": [1, 2]},
        "esrgan.pth": {"params_ema": tensors},
    }
    for name, value in files.items():
        for zipped in (True, False):
            torch.save(value, name, _use_new_zipfile_serialization=zipped)
            report = read(name)
            assert report["tensors"] == 4, report
            found = load_file("draft.safetensors")
            assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())
            assert set(report["left_out"]) == ({"epoch", "lr", "step"} if "inside" in name else set())
    torch.save({"string_to_param": {"*": torch.ones(2, 768)}, "name": "x"}, "word.pt")
    assert read("word.pt")["tensors"] == 1
    assert load_file("draft.safetensors")["emb_params"].shape == (2, 768)


def test_what_training_programs_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of libraries that are not even there stand for nothing."""
    names = ["pytorch_lightning", "callbacks", "model_checkpoint"]
    with monkeypatch.context() as patch:
        for k in range(1, 4):
            patch.setitem(sys.modules, ".".join(names[:k]), types.ModuleType(".".join(names[:k])))
        module = sys.modules[".".join(names)]
        module.ModelCheckpoint = kind = type("ModelCheckpoint", (), {"__module__": module.__name__})
        value = {"callbacks": {kind: {"best": np.float64(1)}}, "state_dict": {"a": torch.ones(2)}}
        torch.save(value, "a.ckpt")
    report = read("a.ckpt")
    assert report["tensors"] == 1, report
    assert report["left_out"] == ["callbacks"]


def test_claims_beyond_the_file() -> None:
    """A tensor of terabytes by strides of 0, and a zip that swells."""
    torch.save({"a": torch.ones(1).expand(2**40)}, "claim.pt")
    assert "no honest file" in read("claim.pt")["error"]
    torch.save({"a": torch.zeros(2**24)}, "large.pt")
    with zipfile.ZipFile("large.pt") as source, zipfile.ZipFile("bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in source.namelist():
            bomb.writestr(entry, source.read(entry))
    assert Path("bomb.pt").stat().st_size < 2**20
    assert "error" in read("bomb.pt", memory=2**25)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """In a process of its own, with its environment; asked for by name; never over a file."""
    save_file({"emb_params": torch.ones(2, 768)}, "wanted.safetensors")
    torch.save({"emb_params": torch.ones(2, 768), "name": "x"}, "neg.pt")
    assert run(["models", "convert", "neg.pt"]) == 2
    assert "with --unsafe-pickle it is read in a process of its own" in capsys.readouterr().err
    assert run(["models", "convert", "neg.pt", "--unsafe-pickle"]) == 0
    out = capsys.readouterr().out
    assert "neg.safetensors is a learned word of Stable Diffusion 1, 1 tensors" in out
    assert "left out, as no tensors: name" in out
    assert torch.equal(load_file("neg.safetensors")["emb_params"], torch.ones(2, 768))
    assert run(["models", "convert", "neg.pt", "--unsafe-pickle"]) == 2
    assert "is there already" in capsys.readouterr().err
    torch.save(PAYLOADS["os.system"], "bad.ckpt")
    assert run(["models", "convert", "bad.ckpt", "--unsafe-pickle"]) == 1
    error = capsys.readouterr().err
    assert ".system, which no weights need: do not open it anywhere" in error
    assert error.count("\n") == 1
    assert not os.path.lexists(CANARY)
    assert not list(Path().glob(".danqing*"))


def test_time_and_names() -> None:
    Path("slow.pt").write_bytes(b"x")
    with pytest.raises(BadBrief, match="is no pickle by its name"):
        convert_pickle(Path("a.safetensors"), Path("b.safetensors"))
    with pytest.raises(BadWeights, match="is missing"):
        convert_pickle(Path("missing.pt"), Path("b.safetensors"))
    with pytest.raises(BadWeights, match="was not read in 0"):
        convert_pickle(Path("slow.pt"), Path("b.safetensors"), seconds=0.01)
    assert not Path("b.safetensors").exists()
