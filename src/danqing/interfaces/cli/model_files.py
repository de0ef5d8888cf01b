"""Facts about files and folders of weights, for `danqing models info` and `scan`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from danqing.core.errors import BadWeights

_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_USES = {  # kind of file or folder -> options that use it
    "a ControlNet": "--control canny=photo.jpg --control-model {}",
    "a T2I-Adapter": "--control canny=photo.jpg --control-model {}",
    "an IP-Adapter": "--ip-image photo.jpg --ip-adapter {}",
    "an image encoder": "--ip-image photo.jpg",  # an IP-Adapter finds it on the list by its width
    "a LoRA": "--adapter {}",
    "a learned word": "--adapter {}",
    "a VAE": "--vae {}",
}
_CLASSES = {  # class name in config.json -> what it is
    "ControlNetModel": "a ControlNet",
    "T2IAdapter": "a T2I-Adapter",
    "CLIPVisionModelWithProjection": "an image encoder",
    "AutoencoderKL": "a VAE",
}


def facts_of_file(path: Path) -> dict[str, str]:
    """Facts about a safetensors file from its header, with its hashes.

    Raises:
        BadWeights: it cannot be read.
    """
    from danqing.weights.detect import identify
    from danqing.weights.tensor_files import printable, read_header, refuse_pickle

    refuse_pickle(path)
    header = read_header(path)
    info = identify(header)
    digest = sha256_of(path)
    facts = {
        "is": str(info),
        "parts": ", ".join(info.parts),
        "predicts": info.prediction,
        "channels": str(info.channels or ""),
        "tensors": f"{info.tensors}, as {', '.join(sorted(set(header.dtypes.values())))}",
        "trigger": printable(header.metadata.get("modelspec.trigger_phrase", "")),
        "title": printable(header.metadata.get("modelspec.title", "")),
        "size": f"{path.stat().st_size / 2**30:.2f} GiB",
        "sha256": digest,
        "hash": f"{digest[:10]} (as A1111 shows it)",
    }
    return {label: value for label, value in facts.items() if value}


def facts_of_folder(folder: Path) -> dict[str, str]:
    """Facts about a diffusers folder, or a folder of one network.

    Raises:
        BadWeights: it is no such folder, or its index cannot be read.
    """
    from danqing.weights.pretrained import read_json

    if (what := _network_in(folder)) and not (folder / "model_index.json").is_file():
        return {"is": what, "place": str(folder)}
    index = read_json(folder / "model_index.json")
    files = [path for path in folder.rglob("*.safetensors") if path.is_file()]
    return {
        "is": f"a folder of diffusers, {index.get('_class_name')}",
        "parts": ", ".join(part for part in _PARTS if (folder / part).is_dir()),
        "size": f"{sum(path.stat().st_size for path in files) / 2**30:.2f} GiB in {len(files)} files",
        "place": str(folder),
    }


def use_of(place: Path, name: str) -> str:
    """The command that uses a file or folder with the given name, chosen by its kind."""
    what = _network_in(place) if place.is_dir() else _kind_of(place)
    return f'danqing paint "a cat" {_USES.get(what, "--model {}").format(name)}'


def _network_in(folder: Path) -> str:
    """What the single network in a folder is, by its config; empty if it is unknown or there is none."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        names = (config.get("_class_name"), *config.get("architectures", ()))
    except (OSError, ValueError, AttributeError, TypeError):
        return ""
    return next((_CLASSES[name] for name in names if name in _CLASSES), "")


def _kind_of(path: Path) -> str:
    from danqing.weights.detect import identify
    from danqing.weights.tensor_files import read_header

    try:
        return str(identify(read_header(path)).kind)
    except BadWeights:
        return ""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def found_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield every file and folder of weights below a folder, with its kind or why it is unusable."""
    from danqing.weights.detect import identify
    from danqing.weights.tensor_files import PICKLES, read_header

    indexes = [path.parent for path in sorted(folder.rglob("model_index.json"))]
    for place in indexes:
        yield place, f"a folder of diffusers, {_class_name(place)}"
    for path in sorted(folder.rglob("*")):
        if any(path.is_relative_to(place) for place in indexes):
            continue
        if path.suffix == ".safetensors":
            try:
                yield path, str(identify(read_header(path)))
            except BadWeights as error:
                yield path, str(error).removeprefix(repr(str(path))).strip()
        elif path.suffix.lower() in PICKLES and path.is_file():
            yield path, "a pickle, which can run any program when opened: fetch the safetensors of it"


def _class_name(folder: Path) -> str:
    try:
        return str(json.loads((folder / "model_index.json").read_text("utf-8")).get("_class_name"))
    except (OSError, ValueError, AttributeError):
        return "whose index cannot be read"
