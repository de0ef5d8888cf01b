"""Reads and writes one component: `config.json` beside a safetensors file. Offline, and never a pickle."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from danqing.core.errors import BadWeights, DanqingError
from danqing.weights.tensor_files import (
    check_keys,
    first_line,
    printable,
    read_tensors,
    refuse_pickle,
    unreadable,
)

Config = dict[str, Any]
Rename = Callable[[str], str | None]
M = TypeVar("M", bound=nn.Module)

_STEMS = ("diffusion_pytorch_model", "model")
_MOST_FILES = 1000  # most files that an index may name


def read_json(path: Path) -> Config:
    """Read the object in a JSON file.

    Raises:
        BadWeights: the file is missing or contains no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadWeights(f"{str(path)!r} is missing: fetch the whole folder again") from None
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise BadWeights(
            f"{str(path)!r} cannot be read as JSON ({first_line(error)}): fetch it again"
        ) from None
    if not isinstance(value, dict):
        raise BadWeights(f"{str(path)!r} holds no JSON object: fetch it again")
    return value


def read_config(folder: Path, class_name: str, what: str) -> Config:
    """Read the config.json of a diffusers network.

    what: the kind of network, for messages.

    Raises:
        BadWeights: there is none, or its class is not `class_name`.
    """
    config = read_json(folder / "config.json")
    if (name := config.get("_class_name")) != class_name:
        raise BadWeights(
            f"{str(folder)!r} holds {printable(str(name))}, which is no {what}: give another folder"
        )
    return config


def read_module(
    folder: Path,
    build: Callable[[Config], M],
    rename: Rename = str,
    dtype: torch.dtype | None = torch.float32,
) -> M:
    """Read the module in `folder`, in evaluation mode.

    build: makes the module from config.json.
    rename: maps a name in the file to the module's name, or to None to drop the tensor.
    dtype: of the weights; None keeps the stored one, which needs no memory until they are used.

    Raises:
        BadWeights: the message names the file, the first wrong key and what to do.
    """
    path = folder / "config.json"
    module = build_empty(repr(str(path)), partial(build, read_json(path)))
    files = find_weights(folder)
    stored = {name: tensor for file in files for name, tensor in read_tensors(file, dtype=dtype).items()}
    named = ((rename(name), tensor) for name, tensor in stored.items())
    fill(module, files[0], {name: tensor for name, tensor in named if name is not None})
    return module


def build_empty(what: str, build: Callable[[], M]) -> M:
    """Call `build` without allocating memory for weights; `fill` adds them.

    what: describes the module in messages.

    Raises:
        BadWeights: the module cannot be built.
    """
    try:
        with torch.device("meta"):
            module = build()
        _fill_buffers(module, build)
    except BadWeights:
        raise
    except Exception as error:  # the libraries raise many kinds of exceptions for wrong configs
        raise BadWeights(f"{what} describes no known network: {first_line(error)}") from None
    return module


def fill(
    module: nn.Module,
    path: Path,
    tensors: Mapping[str, Tensor],
) -> None:
    """Make `tensors` the module's weights, without copying them; sets evaluation mode.

    path: of their file, for messages.

    Raises:
        BadWeights: names or shapes do not match.
    """
    check_keys(path, tensors, module.state_dict())
    module.load_state_dict(tensors, assign=True)
    module.eval()


def _fill_buffers(module: nn.Module, build: Callable[[], nn.Module]) -> None:
    """Set the buffers that no file contains: CLIP's positions, and those that our own modules compute."""
    stored = module.state_dict()
    lacking = {name: buffer for name, buffer in module.named_buffers() if name not in stored}
    computed = all(name.endswith("position_ids") for name in lacking)
    buffers = {} if computed else dict(build().named_buffers())
    for name, buffer in lacking.items():
        owner, _, last = name.rpartition(".")
        positions = torch.arange(buffer.shape[-1]).expand(buffer.shape)
        setattr(module.get_submodule(owner), last, buffers.get(name, positions))


def find_weights(folder: Path) -> tuple[Path, ...]:
    """The safetensors files in `folder`: one, or those that an index names; full precision goes before half.

    Raises:
        BadWeights: there are none. Pickles are refused, because opening one can run any program.
    """
    for stem in _STEMS:
        for variant in ("", ".fp16", ".non_ema"):
            file = folder / f"{stem}{variant}.safetensors"
            if file.is_file():
                return (file,)
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if index.is_file():
                return _files_of_index(index)
    for path in sorted(folder.glob("*")):
        refuse_pickle(path)
    names = " or ".join(f"{stem}.safetensors" for stem in _STEMS)
    raise BadWeights(f"no {names} in {str(folder)!r}: fetch the whole folder again")


def _files_of_index(index: Path) -> tuple[Path, ...]:
    """The files that the index of a sharded model names, which are in the same folder."""
    files_by_tensor = read_json(index).get("weight_map")
    names = set(files_by_tensor.values()) if isinstance(files_by_tensor, dict) else set()
    plain = all(isinstance(name, str) and Path(name).name == name for name in names)
    if not 0 < len(names) <= _MOST_FILES or not plain:
        raise BadWeights(f"{str(index)!r} names no files beside it in weight_map: fetch it again")
    files = tuple(index.parent / name for name in sorted(names))
    for file in files:
        if not file.is_file():
            raise BadWeights(
                f"{str(file)!r} is missing, which {index.name} names: fetch the whole folder again"
            )
    return files


def write_module(
    module: nn.Module, config: Config, folder: Path, stem: str, dtype: torch.dtype, prefix: str = ""
) -> None:
    """Write config.json and `stem`.safetensors.

    dtype: of floating-point tensors.
    prefix: is put before all keys.

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
    """Write a JSON object; its keys keep their order."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`; on success it replaces `folder`.

    Raises:
        DanqingError: the folder cannot be written.
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
    """Move draft/new to `folder`. If that fails `folder` stays as it was."""
    if not folder.exists():
        (draft / "new").rename(folder)
        return
    folder.rename(draft / "old")
    try:
        (draft / "new").rename(folder)
    except OSError:
        (draft / "old").rename(folder)
        raise
