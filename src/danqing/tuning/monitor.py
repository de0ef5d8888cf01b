"""Similarity to the subject (CLIP-I) and to the prompt (CLIP-T) during training, to detect overfitting."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from danqing.core.files import atomic_write
from danqing.families.clip import ClipScorer
from danqing.tuning.adapter_files import write_adapter
from danqing.tuning.dreambooth import SubjectObjective


@dataclass(frozen=True)
class Scores:
    """Mean cosines, in [-1, 1], of the pictures painted after `step` steps (arXiv 2208.12242 section 4.1).

    clip_i: with the pictures of the subject.
    clip_t: with the prompts, in which the class replaces the subject.
    """

    step: int
    clip_i: float
    clip_t: float

    @property
    def compromise(self) -> float:
        """The product of both, so that neither alone is enough; 0 if one of them is negative."""
        return max(self.clip_i, 0) * max(self.clip_t, 0)


class Monitor:
    """Writes the scores of each sample sheet to `scores.csv`, and the best adapter to `best.safetensors`.

    subject: the pictures [n c h w] in [-1, 1].
    plain: each probe with the class in the place of the subject.
    """

    def __init__(
        self, objective: SubjectObjective, clip: ClipScorer, subject: Tensor, plain: Sequence[str], run: Path
    ) -> None:
        self.best = run / "best.safetensors"
        self._objective, self._clip, self._path = objective, clip, run / "scores.csv"
        self._subject, self._words = clip.image_embeddings(subject), clip.text_embeddings(plain)

    def __call__(self, step: int) -> None:
        """Score the pictures painted after `step` steps. A step that is scored again is written only once."""
        images = self._clip.image_embeddings(self._objective.painted)
        likeness, obedience = (
            float((images @ self._subject.T).mean()),
            float((images * self._words).sum(-1).mean()),
        )
        now = Scores(step, round(likeness, 6), round(obedience, 6))
        before = [scores for scores in read_scores(self._path) if scores.step < step]
        if now.compromise >= max((scores.compromise for scores in before), default=0.0):
            write_adapter(self._objective.adapter.cpu_copy(), self.best)
        with atomic_write(self._path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("step", "clip_i", "clip_t"))
            writer.writerows((s.step, s.clip_i, s.clip_t) for s in [*before, now])


def read_scores(path: Path) -> list[Scores]:
    """Read the scores that a `Monitor` wrote; an empty list if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return [Scores(int(row["step"]), float(row["clip_i"]), float(row["clip_t"])) for row in rows]
