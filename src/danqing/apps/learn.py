"""Learn a subject from a few pictures (DreamBooth, textual inversion), to paint it as `<name>`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from danqing.apps.easel import tunable
from danqing.core.errors import BadBrief
from danqing.core.painter import Painter
from danqing.core.sources import Place, read_source
from danqing.tuning.adapter_files import write_adapter
from danqing.tuning.dreambooth import subject_pictures
from danqing.tuning.learning import METHODS, LearnOptions
from danqing.tuning.learning import learn as learned

FOLDER = Path("adapters")


def learn(
    options: LearnOptions,
    images: Sequence[Place],
    *,
    painter: Painter,
    folder: Path = FOLDER,
    watch: Callable[[str], None] | None = None,
) -> Path:
    """Learn what `options` names from `images` (or folders of them); gives the adapter's file in `folder`.

    Checkpoints, sheets and scores are in `folder/NAME/`; a run that was stopped continues there. The painter
    is the same afterwards, bit for bit.

    Raises:
        BadBrief: an unknown method, or a name that cannot be written as `<name>`.
        BadData: fewer than two different pictures. BadPicture: one of them cannot be read.
    """
    METHODS[options.method]
    if not options.name.replace("-", "").replace("_", "").isalnum():
        raise BadBrief(f"name {options.name!r}: use letters, digits and dashes, such as my-cat")
    seen = [read_source(place).image for place in _files(images)]
    model = tunable(painter)
    run = folder / options.name
    adapter = learned(model, subject_pictures(seen, model), options, run, watch=watch)
    path = folder / f"{options.name}.safetensors"
    write_adapter(replace(adapter, name=options.name), path)
    return path


def _files(images: Sequence[Place]) -> list[Place]:
    """The pictures, with folders replaced by the files in them."""
    found: list[Place] = []
    for place in images:
        inside = isinstance(place, str | Path) and Path(place).is_dir()
        found += sorted(path for path in Path(str(place)).iterdir() if path.is_file()) if inside else [place]
    return found
