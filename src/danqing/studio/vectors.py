"""Searching pictures by meaning: CLIP's embeddings of all pictures in memory, compared at once."""

from __future__ import annotations

from threading import Lock

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from danqing.studio.database import Database
from danqing.studio.tables import PictureRow

Vector = NDArray[np.float32]
"""An embedding [d] of length 1."""


def to_bytes(vector: Vector) -> bytes:
    """As it is stored: float16, half of a percent of a cosine is nothing here."""
    return vector.astype("<f2").tobytes()


def from_bytes(data: bytes) -> Vector:
    """What `to_bytes` stored."""
    return np.frombuffer(data, "<f2").astype(np.float32)


class VectorIndex:
    """The embeddings of a database; new ones are read when it is asked."""

    def __init__(self, database: Database) -> None:
        self._database, self._lock = database, Lock()
        self._last = 0
        self._numbers = np.empty(0, np.int64)
        self._vectors: NDArray[np.float32] | None = None

    def nearest(self, vector: Vector, most: int) -> list[tuple[int, float]]:
        """The pictures nearest to `vector`: number and cosine, the nearest first."""
        with self._lock:
            self._refresh()
            if self._vectors is None or self._vectors.shape[1] != len(vector):
                return []
            scores = self._vectors @ vector
            best = np.argpartition(-scores, min(most, len(scores) - 1))[:most]
            best = best[np.argsort(-scores[best], kind="stable")]
            return [(int(self._numbers[k]), float(scores[k])) for k in best]

    def _refresh(self) -> None:
        with self._database.read() as session:
            rows = session.execute(
                select(PictureRow.number, PictureRow.vector)
                .where(PictureRow.number > self._last, PictureRow.vector.is_not(None))
                .order_by(PictureRow.number)
            ).all()
        if not rows:
            return
        self._last = rows[-1][0]
        new = [(number, from_bytes(data or b"")) for number, data in rows]
        width = len(new[-1][1])
        new = [(number, vector) for number, vector in new if len(vector) == width]
        vectors = np.stack([vector for _, vector in new])
        numbers = np.array([number for number, _ in new])
        if self._vectors is None or self._vectors.shape[1] != width:  # another CLIP came with an update
            self._vectors, self._numbers = vectors, numbers
        else:
            self._vectors = np.concatenate([self._vectors, vectors])
            self._numbers = np.concatenate([self._numbers, numbers])
