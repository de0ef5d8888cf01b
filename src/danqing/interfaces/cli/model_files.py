"""What `danqing models info` and `scan` say of files and folders of weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from danqing.core.errors import BadWeights

_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def facts_of_file(path: Path) -> dict[str, str]:
    """What a safetensors file is, by its header, with its hashes.

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
    """What a diffusers folder holds.

    Raises:
        BadWeights: it is none, or its index cannot be read.
    """
    from danqing.weights.pretrained import read_json

    index = read_json(folder / "model_index.json")
    files = [path for path in folder.rglob("*.safetensors") if path.is_file()]
    return {
        "is": f"a folder of diffusers, {index.get('_class_name')}",
        "parts": ", ".join(part for part in _PARTS if (folder / part).is_dir()),
        "size": f"{sum(path.stat().st_size for path in files) / 2**30:.2f} GiB in {len(files)} files",
        "place": str(folder),
    }


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def found_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file and folder of weights below a folder, with what it is or why it cannot be used."""
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
