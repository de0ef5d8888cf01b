"""A program that reads one pickle of weights, with nothing but tensors allowed, and writes safetensors.

Run by `weights.pickles` as a process of its own: `python _unpickle.py SOURCE DRAFT SECONDS MEMORY`. PyTorch's
restricted reader runs nothing that a file names. Should it ever be wrong, the process may still not start
programs, open sockets, write files or use more than its share. It imports nothing of danqing.
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

_PARTS = ("image_proj", "ip_adapter")  # of an IP-Adapter, each with tensors of its own
_INSIDE = ("state_dict", "params_ema", "params", "model", "module", "generator")
"""Where files of other programs keep the tensors, if not at the top."""
_LEARNED_WORD = "string_to_param"  # of A1111's embeddings: {"*": tensor}
_MOST_TENSORS = 100_000
_INFLATION = 4  # how much larger than its file what a file holds may be
_FORBIDDEN = (  # events of the interpreter that no reading of tensors needs
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
_HARMLESS = (  # what training programs leave beside the weights, read as an object without any meaning
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
)


class Nothing:
    """Stands for an object that is not wanted."""

    def __init__(self, *_: object) -> None:
        """Whatever it is made of."""

    def __setstate__(self, _: object) -> None:
        """Whatever its state is."""


def main(source: str, draft: str, seconds: str, memory: str) -> int:
    """Convert, and print a line of JSON about it: {"tensors": 3, "left_out": [...]} or {"error": "..."}."""
    try:
        torch.set_num_threads(1)
        _limit(int(seconds), int(memory), _INFLATION * os.path.getsize(source) + 2**26)  # noqa: PTH202
        report = convert(source, draft)
    except BaseException as error:  # whatever a hostile file makes happen
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
    """The named tensors, and the names of what else there is."""
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
    """Strides of 0 would make much of little."""
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if total > _INFLATION * size + 2**24 or len(tensors) > _MOST_TENSORS:
        raise ValueError(f"it claims {len(tensors)} tensors of {total} bytes, which is no honest file")


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, each with memory of its own, as safetensors wants them."""
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
    """Let this process have so much time and memory, write files so large, and reach no network."""
    try:
        import resource
    except ImportError:  # Windows: the parent's clock and the hook remain
        return
    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else open(os.devnull) as file:  # noqa: PTH110, PTH123
        used = int((file.read().split() or ["0"])[0]) * resource.getpagesize()
    limits = {"CPU": seconds, "FSIZE": file_size, "CORE": 0, "NPROC": 0}
    if used:
        limits["AS"] = used + memory
    for name, most in limits.items():
        with suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    with suppress(OSError, AttributeError):  # a network of its own with nobody in it, where that is allowed
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)  # type: ignore[attr-defined,unused-ignore]


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    writes = event == "open" and isinstance(arguments[1], str) and bool(set(arguments[1]) & set("wax+"))
    if writes or event.startswith(_FORBIDDEN):
        raise PermissionError(f"it tried {event}, which no weights need")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
