"""Search by meaning: the CLIP embeddings of all pictures in memory, compared by brute force."""

from __future__ import annotations

from threading import Lock

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from danqing.studio.database import Database
from danqing.studio.tables import PictureRow

Vector = NDArray[np.float32]
"""A CLIP embedding [d] of length 1."""


def to_bytes(vector: Vector) -> bytes:
    """The bytes to store: float16, whose error does not matter for cosines."""
    return vector.astype("<f2").tobytes()


def from_bytes(data: bytes) -> Vector:
    """The embedding that `to_bytes` stored."""
    return np.frombuffer(data, "<f2").astype(np.float32)


class VectorIndex:
    """The embeddings of a database; each search first reads those that are new."""

    def __init__(self, database: Database) -> None:
        self._database, self._lock = database, Lock()
        self._last = 0
        self._numbers = np.empty(0, np.int64)
        self._vectors: NDArray[np.float32] | None = None

    def nearest(self, vector: Vector, most: int) -> list[tuple[int, float]]:
        """The pictures nearest to `vector`: (number, cosine), at most `most`, the nearest first."""
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
        # an update of danqing brought another CLIP
        if self._vectors is None or self._vectors.shape[1] != width:
            self._vectors, self._numbers = vectors, numbers
        else:
            self._vectors = np.concatenate([self._vectors, vectors])
            self._numbers = np.concatenate([self._numbers, numbers])
