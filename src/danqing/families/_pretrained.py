"""Reading and writing one component: `config.json` beside a safetensors file. Offline, never a pickle."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
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

    `build` makes it from config.json. `rename` gives the module's name for a name in the file, None to drop
    it.

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
    pickles = [path.name for path in sorted(folder.glob("*")) if path.suffix in _PICKLES]
    if pickles:
        raise BadWeights(
            f"{str(folder / pickles[0])!r} is a pickle, which can run any program when opened: "
            f"convert it to safetensors"
        )
    raise BadWeights(f"no {_NAMES[0]} or {_NAMES[2]} in {str(folder)!r}: fetch the whole folder again")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, floating ones as float32.

    Raises:
        BadWeights: the file is truncated or no safetensors, or a tensor holds NaN or infinite values.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadWeights(
            f"{str(path)!r} is truncated or not safetensors ({first_line(error)}): fetch it again"
        ) from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            if not tensor.isfinite().all():
                raise BadWeights(f"{str(path)!r}: {name} holds NaN or infinite values: fetch another copy")
            tensors[name] = tensor.float()
    return tensors


def check_keys(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Every wanted tensor is there in its shape, and nothing else.

    Raises:
        BadWeights: naming the first that is missing, mis-shaped or unexpected, and how many more there are.
    """
    shapes = [name for name in wanted if name in found and found[name].shape != wanted[name].shape]
    faults = [(f"lacks {name}", "missing") for name in wanted if name not in found]
    faults += [
        (f"has {name} of shape {list(found[name].shape)} for {list(wanted[name].shape)}", "mis-shaped")
        for name in shapes
    ]
    faults += [
        (f"has {name}, which the network does not know", "unexpected") for name in found if name not in wanted
    ]
    if faults:
        (first, kind), more = faults[0], len(faults) - 1
        others = f" and {more} other faults" if more else ""
        raise BadWeights(f"{str(path)!r} {first}{others} ({kind}): it does not belong to its config.json")


def write_module(
    module: nn.Module, config: Config, folder: Path, stem: str, dtype: torch.dtype, prefix: str = ""
) -> None:
    """Write config.json and `stem`.safetensors, floating tensors in `dtype`, keys after `prefix`.

    Raises:
        BadWeights: a value does not fit into `dtype`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(config, folder / "config.json")
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
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
