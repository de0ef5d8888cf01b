"""Reading and writing one component: `config.json` beside a safetensors file. Offline, never a pickle."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from danqing.core.errors import BadWeights, DanqingError

Config = dict[str, Any]
Rename = Callable[[str], str | None]
M = TypeVar("M", bound=nn.Module)

_STEMS = ("diffusion_pytorch_model", "model")
_NAMES = tuple(f"{stem}{variant}.safetensors" for stem in _STEMS for variant in ("", ".fp16"))
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


def read_json(path: Path) -> Config:
    """The object in a JSON file.

    Raises:
        BadWeights: the file is missing or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadWeights(f"{str(path)!r} is missing: fetch the whole folder again") from None
    except (OSError, ValueError) as error:
        raise BadWeights(
            f"{str(path)!r} cannot be read as JSON ({first_line(error)}): fetch it again"
        ) from None
    if not isinstance(value, dict):
        raise BadWeights(f"{str(path)!r} holds no JSON object: fetch it again")
    return value


def read_module(folder: Path, build: Callable[[Config], M], rename: Rename = str) -> M:
    """The float32 module that `folder` describes, in evaluation mode.

    build: makes the module from config.json.
    rename: a name in the file -> the module's name; None drops the tensor.

    Raises:
        BadWeights: in one line that names the file, the first offending key and what to do.
    """
    config = read_json(folder / "config.json")
    try:
        module = build(config)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadWeights(
            f"{str(folder / 'config.json')!r} describes no known network: {first_line(error)}"
        ) from None
    path = find_weights(folder)
    stored = ((rename(name), tensor) for name, tensor in read_tensors(path).items())
    tensors = {name: tensor for name, tensor in stored if name is not None}
    check_keys(path, tensors, module.state_dict())
    module.load_state_dict(tensors)
    return module.eval()


def find_weights(folder: Path) -> Path:
    """The safetensors file in `folder`, full precision before half.

    Raises:
        BadWeights: there is none; pickles are refused, since opening one can run any program.
    """
    for name in _NAMES:
        if (folder / name).is_file():
            return folder / name
    for path in sorted(folder.glob("*")):
        refuse_pickle(path)
    raise BadWeights(f"no {_NAMES[0]} or {_NAMES[2]} in {str(folder)!r}: fetch the whole folder again")


def refuse_pickle(path: Path) -> None:
    """Opening a pickle can run any program.

    Raises:
        BadWeights: the file's name says that it is one.
    """
    if path.suffix.lower() in _PICKLES:
        raise BadWeights(
            f"{str(path)!r} is a pickle, which can run any program when opened: convert it to safetensors"
        )


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself: the shapes of its tensors by name, and its metadata."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """The head of a safetensors file, without its tensors.

    Raises:
        BadWeights: the file is truncated or no safetensors.
    """
    with _opened(path) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        return Header(path, shapes, file.metadata() or {})


def read_tensors(path: Path, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, all or those in `names`, floating ones as float32.

    Raises:
        BadWeights: the file is truncated or no safetensors, or a tensor holds NaN or infinite values.
    """
    with _opened(path) as file:
        tensors: dict[str, Tensor] = {
            name: file.get_tensor(name) for name in (file.keys() if names is None else names)
        }
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = tensor.float()
            if not tensors[name].isfinite().all():
                raise BadWeights(f"{str(path)!r}: {name} holds NaN or infinite values: fetch another copy")
    return tensors


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise BadWeights(
            f"{str(path)!r} is truncated or not safetensors ({first_line(error)}): fetch it again"
        ) from None


def check_keys(
    path: Path,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    so: str = "it does not belong to its config.json",
) -> None:
    """Check that `tensors` are those of a network: every expected one in its shape, and no others.

    path: the file, for the message.
    tensors: what is in the file.
    expected: the network's own.
    so: what follows if they do not fit, for the message.

    Raises:
        BadWeights: naming the first that is missing, mis-shaped or unexpected, and how many more there are.
    """
    shapes = [name for name in expected if name in tensors and tensors[name].shape != expected[name].shape]
    faults = [(f"lacks {name}", "missing") for name in expected if name not in tensors]
    faults += [
        (f"has {name} of shape {list(tensors[name].shape)} for {list(expected[name].shape)}", "mis-shaped")
        for name in shapes
    ]
    faults += [
        (f"has {name}, which the network does not know", "unexpected")
        for name in tensors
        if name not in expected
    ]
    if faults:
        (first, kind), more = faults[0], len(faults) - 1
        others = f" and {more} other faults" if more else ""
        raise BadWeights(f"{str(path)!r} {first}{others} ({kind}): {so}")


def write_module(
    module: nn.Module, config: Config, folder: Path, stem: str, dtype: torch.dtype, prefix: str = ""
) -> None:
    """Write config.json and `stem`.safetensors, floating tensors in `dtype`, keys after `prefix`.

    Raises:
        BadWeights: a value does not fit into `dtype`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own_config = {key: value for key, value in config.items() if key != "_name_or_path"}
    write_json(own_config, folder / "config.json")
    tensors = {}
    for name, tensor in module.state_dict().items():
        stored = tensor.to(dtype) if tensor.is_floating_point() else tensor
        if not stored.isfinite().all():
            raise BadWeights(
                f"{stem}: {name} is not finite in {dtype}: nothing is written; use torch.float32"
            )
        tensors[prefix + name] = stored.detach().cpu().contiguous().clone()
    save_file(tensors, folder / f"{stem}.safetensors", metadata={"format": "pt"})


def write_json(value: Config, path: Path) -> None:
    """Write a JSON object, keys in their own order."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary neighbour of `folder`; on success it takes the place of `folder`.

    Raises:
        DanqingError: the place cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise DanqingError(f"cannot write {str(folder)!r}: {error.strerror}; choose another place") from None
    try:
        (draft / "new").mkdir()
        yield draft / "new"
        _swap(folder, draft)
    except OSError as error:
        raise DanqingError(f"cannot write {str(folder)!r}: {error.strerror}; choose another place") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _swap(folder: Path, draft: Path) -> None:
    """Put draft/new where `folder` is. If that fails `folder` is as it was."""
    if not folder.exists():
        (draft / "new").rename(folder)
        return
    folder.rename(draft / "old")
    try:
        (draft / "new").rename(folder)
    except OSError:
        (draft / "old").rename(folder)
        raise


def first_line(error: Exception) -> str:
    """The first line of what an error says; of a value that is not what it should be, where it is and why."""
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(str(part) for part in fault['loc'])} {fault['msg'].lower()}"
    return (str(error).splitlines() or [type(error).__name__])[0]
