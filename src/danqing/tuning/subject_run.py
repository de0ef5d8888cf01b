"""The folder in which a subject is learned, and the state from which a later call resumes. Needs no torch."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from danqing.core.errors import BadData
from danqing.core.files import atomic_write

RECORD = "learning.json"
PICTURES = "pictures.safetensors"
_FREE = ("avoid", "further")  # options that may differ from one call to the next


@dataclass(frozen=True)
class LearnOptions:
    """What to learn and how. Periods are in steps.

    name: prompts call the subject `<name>`.
    kind: the class of the subject in a word or two, such as "cat".
    method: a name in `learning.METHODS`.
    steps: number of steps over which the learning rate falls.
    further: number of further steps at the last learning rate.
    lr: learning rate; None for the one that suits the method and the model.
    rank: rank of the low-rank changes.
    prior_weight: DreamBooth's lambda, 0 for no prior.
    prior_count: number of pictures of the class to paint for the prior.
    batch: pictures of the subject in a step, and as many of its class.
    vectors: number of embeddings of a learned word.
    text: whether to change the text encoder too.
    convs: whether to change the UNet's convolutions too.
    mirror: whether to mirror pictures at random.
    gamma: cap of the min-SNR weight; None for no weight.
    precision: "bf16" for mixed precision, "no" for none.
    avoid: words that must not become the rare token.
    sentences: caption templates, with {} for the subject.
    look_every: period of sample sheets.
    keep_best: whether to return the adapter of the step with the best CLIP scores.
    """

    name: str
    kind: str
    method: str = "dreambooth"
    steps: int = 400
    further: int = 0
    lr: float | None = None
    rank: int = 16
    prior_weight: float = 1.0
    prior_count: int = 24
    batch: int = 4
    vectors: int = 2
    text: bool = False
    convs: bool = True
    mirror: bool = False
    gamma: float | None = None
    seed: int = 0
    precision: str = "no"
    avoid: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ("{}", "a {}", "a picture of a {}")
    look_every: int = 100
    keep_best: bool = False

    @property
    def last(self) -> int:
        """The total number of steps."""
        return self.steps + self.further


class SubjectRun:
    """A folder with checkpoints, sample sheets and scores, and a record of what is learned there.

    learning.json: the options, the model and a digest of the pictures.
    pictures.safetensors: the pictures.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def options(self) -> LearnOptions | None:
        """What is learned here and how; None if nothing is.

        Raises:
            BadData: the record is damaged.
        """
        record = self._record()
        return None if record is None else _options(record, self.folder)

    def claim(self, options: LearnOptions, model: str, pictures: str) -> LearnOptions:
        """Record what is learned here. Returns the options to learn with.

        `avoid` keeps the words of the first call, so that the rare token stays the same.

        model: name and fingerprint of the model.
        pictures: a digest of the pictures.

        Raises:
            BadData: another subject is learned here.
        """
        before = self.options()
        if before is not None:
            same = {name: getattr(before, name) for name in _FREE}
            noted = self._record() or {}
            if replace(options, **same) != before or (noted["model"], noted["pictures"]) != (model, pictures):
                raise BadData(
                    f"{str(self.folder)!r} holds another run, of other pictures or options: choose another "
                    "name, or --restart learns anew"
                )
            options = replace(options, avoid=before.avoid)
        record = {"options": asdict(options), "model": model, "pictures": pictures}
        with atomic_write(self.folder / RECORD) as draft:
            draft.write_text(json.dumps(record, ensure_ascii=False, indent=1), "utf-8")
        return options

    def longer(self, options: LearnOptions, steps: int) -> LearnOptions:
        """The options for `steps` more steps.

        If earlier further steps were not finished, only those are done.
        """
        unfinished = options.further and self.steps_done() < options.last
        return options if unfinished else replace(options, further=options.further + steps)

    def steps_done(self) -> int:
        """The step of the last checkpoint, 0 if there is none."""
        for place in ("checkpoint", "checkpoint.old"):
            with suppress(OSError, ValueError, LookupError, TypeError):
                return int(json.loads((self.folder / place / "progress.json").read_text("utf-8"))["step"])
        return 0

    def clear(self) -> None:
        """Delete what was learned. The prior pictures, which the model painted, stay."""
        for name in ("checkpoint", "checkpoint.old", "checkpoint.part", "sheets"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in (RECORD, PICTURES, "log.csv", "scores.csv", "best.safetensors"):
            (self.folder / name).unlink(missing_ok=True)

    def _record(self) -> dict[str, Any] | None:
        try:
            record = json.loads((self.folder / RECORD).read_text("utf-8"))
        except OSError:
            return None
        except ValueError:
            raise _damage_error(self.folder) from None
        if not isinstance(record, dict) or set(record) != {"options", "model", "pictures"}:
            raise _damage_error(self.folder)
        return record


def _options(record: dict[str, Any], folder: Path) -> LearnOptions:
    values = record["options"]
    names = {field.name for field in fields(LearnOptions)}
    if not isinstance(values, dict) or set(values) != names:
        raise _damage_error(folder)
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return LearnOptions(**options)


def _damage_error(folder: Path) -> BadData:
    return BadData(f"{str(folder / RECORD)!r} is damaged: choose another name, or --restart learns anew")
