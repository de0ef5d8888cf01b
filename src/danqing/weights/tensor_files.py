"""Reads safetensors files: headers, and tensors mapped from disk; names what other files are.

Mapped tensors need no memory and no time until they are used. Small files are checked for values that are not
finite when they are opened, large ones only after a picture is not finite (`nets.placement.not_finite`).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from danqing.core.errors import BadWeights, shorten
from danqing.nets.placement import is_finite

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
_SMALL = 2**26  # most numbers in a file for which all are checked when it is opened: a twentieth of a second
# first bytes of other files, what they are, what to do
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "a pointer of git-lfs, not the weights",
        "run git lfs pull where it came from",
    ),
    (b"GGUF", "GGUF", "fetch the safetensors of the same model"),
    (b"PK\x03\x04", "a zip or a pickle of PyTorch", "fetch the safetensors of the same model"),
    (b"\x80\x02", "a pickle", "fetch the safetensors of the same model"),
    (b"\x80\x04", "a pickle", "fetch the safetensors of the same model"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"\x89PNG", "a PNG picture", "give the file of weights"),
    (b"\xff\xd8\xff", "a JPEG picture", "give the file of weights"),
    (b"<", "a web page", "log in where it came from and fetch it again"),
    (b'{"', "JSON", "give the .safetensors beside it"),
)
_REASONS = {
    errno.ENOENT: "is missing: fetch it again",
    errno.EACCES: "may not be read: give yourself permission (chmod u+r)",
    errno.ELOOP: "is a link that leads back to itself: remove it and fetch the file again",
    errno.ENAMETOOLONG: "has a name that is too long for this computer: give a shorter one",
    errno.EISDIR: "is a folder: give a file",
}


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file.

    path: the file.
    shapes: tensor name -> shape.
    metadata: free text by key.
    dtypes: tensor name -> F32, F16, BF16, I8 and so on.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]
    dtypes: dict[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file, without its tensors.

    Raises:
        BadWeights: the file cannot be read, or it is of another kind, which the message names.
    """
    with _open(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        dtypes = {name: str(part.get_dtype()) for name, part in slices.items()}
        return Header(path, shapes, file.metadata() or {}, dtypes)


def read_tensors(
    path: Path, names: Iterable[str] | None = None, dtype: torch.dtype | None = torch.float32
) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, all or those in `names`.

    dtype: to which floating-point tensors are cast; None keeps the stored one. A tensor that is not cast
        stays on disk until it is used.

    Raises:
        BadWeights: the file cannot be read, is of another kind, or is small and has values that are NaN or
            infinite.
    """
    with _open(path) as file:
        tensors: dict[str, Tensor] = {
            name: file.get_tensor(name) for name in (file.keys() if names is None else names)
        }
    is_small = sum(tensor.numel() for tensor in tensors.values()) <= _SMALL
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            if dtype is not None:
                tensors[name] = tensor.to(dtype)
            if is_small and not is_finite(tensor):
                raise BadWeights(
                    f"{str(path)!r}: {printable(name)} holds NaN or infinite values: fetch another copy"
                )
    return tensors


def check_keys(
    path: Path,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    so: str = "it does not belong to its config.json",
) -> None:
    """Check that `tensors` are those of a network: every expected one in its shape, and no others.

    path: the file, for messages.
    tensors: the file's tensors.
    expected: the network's tensors.
    so: the consequence of a mismatch, for messages.

    Raises:
        BadWeights: a tensor is missing, unexpected, of another shape or not floating-point; the message names
            the first one and the number of others.
    """
    shared = [name for name in expected if name in tensors]
    faults = [(f"lacks {name}", "missing") for name in expected if name not in tensors]
    faults += [
        (
            f"has {printable(name)} of shape {list(tensors[name].shape)} for {list(expected[name].shape)}",
            "mis-shaped",
        )
        for name in shared
        if tensors[name].shape != expected[name].shape
    ]
    faults += [
        (f"has {printable(name)}, which the network does not know", "unexpected")
        for name in tensors
        if name not in expected
    ]
    faults += [
        (
            f"has {printable(name)} as {str(tensors[name].dtype).removeprefix('torch.')}",
            "quantised in an unknown way",
        )
        for name in shared
        if expected[name].is_floating_point() and not tensors[name].is_floating_point()
    ]
    if faults:
        (first, kind), more = faults[0], len(faults) - 1
        others = f" and {more} other faults" if more else ""
        raise BadWeights(f"{str(path)!r} {first}{others} ({kind}): {so}")


def refuse_pickle(path: Path) -> None:
    """Check that a file is not a pickle, because opening one can run any program.

    Raises:
        BadWeights: its name is that of a pickle.
    """
    if path.suffix.lower() in PICKLES:
        raise BadWeights(
            f"{str(path)!r} is a pickle, which can run any program when opened: fetch the safetensors of the "
            "same model, or see danqing models convert --help"
        )


def printable(name: str, most: int = 120) -> str:
    """A name from a file, safe to print: at most `most` characters, no control characters."""
    return shorten("".join(c if c.isprintable() else ascii(c)[1:-1] for c in name), most)


def first_line(error: Exception) -> str:
    """The first line of an error's message; for a validation error the field and the reason."""
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        value = "" if fault["type"] == "missing" else f" is {shorten(repr(fault['input']), 40)}"
        return printable(f"{place}{value}: {fault['msg'].lower()}")
    return printable((str(error).splitlines() or [type(error).__name__])[0], 200)


def unreadable(path: Path, error: OSError) -> BadWeights:
    """The error for a file that the system cannot read, in one line."""
    reason = _REASONS.get(error.errno or 0, f"cannot be read ({error.strerror}): fetch it again")
    return BadWeights(f"{shorten(str(path), 120)!r} {reason}")


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    beginning = _beginning(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, RuntimeError) as error:
        for start, kind, fix in _BEGINNINGS:
            if beginning.startswith(start):
                raise BadWeights(f"{str(path)!r} is {kind}: {fix}") from None
        raise BadWeights(
            f"{str(path)!r} is truncated or not safetensors ({first_line(error)}): fetch it again"
        ) from None


def _beginning(path: Path) -> bytes:
    """The first bytes of a file, without leading white space.

    Raises:
        BadWeights: it does not exist, is a pipe or a device, or may not be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise BadWeights(f"{str(path)!r} is no ordinary file: give a .safetensors file")
        with path.open("rb") as file:
            return re.sub(rb"^\s+", b"", file.read(64))
    except OSError as error:
        raise unreadable(path, error) from None
