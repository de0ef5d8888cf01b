"""A program that reads one pickle of weights, allowing nothing but tensors, and writes safetensors.

`weights.pickles` runs it as a separate process: `python _unpickle.py SOURCE DRAFT SECONDS MEMORY`. PyTorch's
restricted unpickler runs no code that a file names. If it should have a bug, the process still cannot start
programs, open sockets, write other files or exceed its limits. It imports nothing of danqing.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

_PARTS = ("image_proj", "ip_adapter")  # groups of tensors in an IP-Adapter file
_INSIDE = ("state_dict", "params_ema", "params", "model", "module", "generator")
"""Keys under which files of other programs keep the tensors, if not at the top level."""
_LEARNED_WORD = "string_to_param"  # the key of A1111's embeddings: {"*": tensor}
_MOST_TENSORS = 100_000
_INFLATION = 4  # the largest size of the tensors, relative to the size of the file
_FORBIDDEN = (  # audit events of the interpreter that reading tensors never needs
    "socket.",
    "subprocess.",
    "os.exec",
    "os.fork",
    "os.kill",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.chmod",
    "os.chown",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.putenv",
    "shutil.",
    "ctypes.dlopen",
    "webbrowser.",
    "urllib.",
    "pty.",
)
# classes that training programs store beside the weights; they are replaced by a class without behaviour
_HARMLESS = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
)


class Nothing:
    """Replaces an object that is not needed."""

    def __init__(self, *_: object) -> None:
        """Ignore all arguments."""

    def __setstate__(self, _: object) -> None:
        """Ignore the state."""


def main(source: str, draft: str, seconds: str, memory: str) -> int:
    """Convert the file, and print one line of JSON: {"tensors": 3, "left_out": [...]} or {"error": "..."}."""
    try:
        torch.set_num_threads(1)
        _limit(int(seconds), int(memory), _INFLATION * os.path.getsize(source) + 2**26)  # noqa: PTH202
        report = convert(source, draft)
    except BaseException as error:  # a hostile file can raise anything
        lines = str(error).splitlines()
        line = next((text for text in lines if "GLOBAL" in text), lines[0] if lines else "")
        report = {"error": f"{type(error).__name__}: {line}"[:500]}
    print(json.dumps(report), flush=True)
    return 3 if "error" in report else 0


def convert(source: str, draft: str) -> dict[str, Any]:
    """Read the pickle at `source`, and write its tensors to `draft`."""
    names: list[Any] = [(Nothing, name) for name in _HARMLESS]
    sys.addaudithook(_refuse)
    with torch.serialization.safe_globals(names):
        mapped = zipfile.is_zipfile(source)
        loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    tensors, left_out = _tensors_in(loaded)
    _check_size(tensors, os.path.getsize(source))  # noqa: PTH202
    if not tensors:
        raise ValueError("it holds no tensors by name")
    save_file(_apart(tensors), draft, metadata={"format": "pt"})
    return {"tensors": len(tensors), "left_out": left_out}


def _tensors_in(loaded: Any) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by name, and the names of all other entries."""
    left_out: list[str] = []
    if not isinstance(loaded, Mapping):
        raise ValueError(f"it holds a {type(loaded).__name__}, not tensors by name")
    while (inside := next((k for k in _INSIDE if isinstance(loaded.get(k), Mapping)), None)) is not None:
        left_out += [str(key) for key in loaded if key != inside]
        loaded = loaded[inside]
    word = loaded.get(_LEARNED_WORD)
    if isinstance(word, Mapping) and len(word) == 1:
        left_out += [str(key) for key in loaded if key != _LEARNED_WORD]
        loaded = {"emb_params": next(iter(word.values()))}
    for part in _PARTS:
        if isinstance(inside := loaded.get(part), Mapping):
            loaded = {**loaded, **{f"{part}.{name}": value for name, value in inside.items()}}
            loaded.pop(part)
    tensors = {key: value for key, value in loaded.items() if isinstance(key, str) and _is_plain(value)}
    return tensors, left_out + [str(key) for key in loaded if key not in tensors]


def _is_plain(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _check_size(tensors: Mapping[str, Tensor], size: int) -> None:
    """Check the size of the tensors: with strides of 0 a small file can claim huge ones."""
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if total > _INFLATION * size + 2**24 or len(tensors) > _MOST_TENSORS:
        raise ValueError(f"it claims {len(tensors)} tensors of {total} bytes, which is no honest file")


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, each with its own contiguous memory, as safetensors needs them."""
    used: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in used or storage.nbytes() != plain.numel() * plain.element_size():
            plain = plain.clone()
        used.add(plain.untyped_storage().data_ptr())
        apart[name] = plain
    return apart


def _limit(seconds: int, memory: int, file_size: int) -> None:
    """Limit this process's CPU time, memory and size of written files, and cut it off the network."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; the parent's timeout and the audit hook remain
        return
    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else open(os.devnull) as file:  # noqa: PTH110, PTH123
        used = int((file.read().split() or ["0"])[0]) * resource.getpagesize()
    limits = {"CPU": seconds, "FSIZE": file_size, "CORE": 0, "NPROC": 0}
    if used:
        limits["AS"] = used + memory
    for name, most in limits.items():
        with suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    with suppress(OSError, AttributeError):  # an empty network namespace, if the system allows it
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)  # type: ignore[attr-defined,unused-ignore]


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    writes = event == "open" and isinstance(arguments[1], str) and bool(set(arguments[1]) & set("wax+"))
    if writes or event.startswith(_FORBIDDEN):
        raise PermissionError(f"it tried {event}, which no weights need")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
