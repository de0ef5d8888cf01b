"""Converts a pickle of weights to safetensors, in a separate process that allows nothing but tensors.

There is no other way to open a pickle: a file that PyTorch's restricted unpickler refuses is refused.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from danqing.core.errors import BadBrief, BadWeights
from danqing.core.files import atomic_write
from danqing.weights.tensor_files import PICKLES, printable, read_header, unreadable

_PROGRAM = Path(__file__).with_name("_unpickle.py")
_KEPT = ("PATH", "HOME", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMPDIR", "VIRTUAL_ENV")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_LONGEST = 2**20  # most bytes of the process's output


class Converted(NamedTuple):
    """The result of a conversion.

    tensors: number of tensors.
    left_out: names of the entries that are not tensors.
    """

    tensors: int
    left_out: tuple[str, ...]


def convert_pickle(source: Path, target: Path, *, seconds: int | None = None) -> Converted:
    """Write the tensors of a pickle as safetensors; the pickle stays.

    seconds: timeout of the process; None derives it from the file's size.

    Raises:
        BadBrief: its name is not that of a pickle.
        BadWeights: it cannot be read, or needs more than tensors.
        DanqingError: the target cannot be written.
    """
    if source.suffix.lower() not in PICKLES:
        raise BadBrief(f"{str(source)!r} is no pickle by its name ({', '.join(PICKLES)}): nothing to convert")
    try:
        size = source.stat().st_size
        source.open("rb").close()
    except OSError as error:
        raise unreadable(source, error) from None
    if not source.is_file():
        raise BadWeights(f"{str(source)!r} is no ordinary file: give a pickle of weights")
    with atomic_write(target) as draft:
        report = _run(source, draft, seconds or 60 + size // 2**24, 2 * size + 2**30)
        read_header(draft)  # checks that the process wrote a valid file
    return Converted(int(report["tensors"]), tuple(map(printable, report["left_out"])))


def _run(source: Path, draft: Path, seconds: int, memory: int) -> dict[str, Any]:
    """Run the process on a file. Returns its output.

    Raises:
        BadWeights: it reports an error, or ends without output.
    """
    command = [sys.executable, "-P", str(_PROGRAM), str(source.absolute()), str(draft), str(seconds)]
    process = subprocess.Popen(
        [*command, str(memory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise BadWeights(
            f"{str(source)!r} was not read in {seconds} seconds: fetch the safetensors"
        ) from None
    finally:
        _end(process)
    try:
        report = json.loads(output[:_LONGEST].splitlines()[-1])
        if "error" not in report:
            return {"tensors": int(report["tensors"]), "left_out": list(map(str, report["left_out"]))}
    except (ValueError, IndexError, KeyError, TypeError):
        report = {"error": f"its reader ended with {process.returncode}, out of memory or time"}
    raise BadWeights(f"{str(source)!r} {_reason(str(report['error']))}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and all its children."""
    with suppress(OSError, AttributeError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.communicate()


def _reason(error: str) -> str:
    """An error as one line."""
    request = _GLOBAL.search(error)
    if request is not None:
        return f"asks for {printable(request[1])}, which no weights need: do not open it anywhere"
    if "tried" in error:
        return f"was stopped ({printable(error)}): do not open it anywhere"
    return f"cannot be read as weights ({printable(error)}): fetch the safetensors of the same model"
