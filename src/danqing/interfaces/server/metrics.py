"""Metrics in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import func, select

from danqing.studio.service import Studio
from danqing.studio.tables import JobRow, PictureRow

_Row = tuple[dict[str, str], float]


def metrics_text(studio: Studio, requests: Mapping[tuple[str, int], int]) -> str:
    """All metrics.

    requests: (method, status) -> number of requests.
    """
    with studio.store.database.read() as session:
        pictures = session.scalar(select(func.count()).select_from(PictureRow)) or 0
        seconds = func.sum(JobRow.finished - JobRow.started)
        done = session.execute(
            select(JobRow.app, func.count(), seconds).where(JobRow.state == "done").group_by(JobRow.app)
        ).all()
    jobs = studio.store.queue.counts().items()
    return "".join(
        [
            _metric("danqing_jobs", "gauge", "Jobs by state.", [({"state": s}, n) for s, n in jobs]),
            _metric("danqing_pictures", "gauge", "Pictures in the gallery.", [({}, pictures)]),
            _metric("danqing_workers", "gauge", "Workers that are alive.", [({}, studio.pool.workers)]),
            _metric(
                "danqing_jobs_done", "gauge", "Jobs that are done.", [({"app": a}, n) for a, n, _ in done]
            ),
            _metric(
                "danqing_job_seconds", "gauge", "Time in them.", [({"app": a}, s or 0) for a, _, s in done]
            ),
            _metric(
                "danqing_requests_total",
                "counter",
                "Requests since the start.",
                [({"method": method, "status": str(status)}, n) for (method, status), n in requests.items()],
            ),
        ]
    )


def _metric(name: str, kind: str, help_: str, rows: Iterable[_Row]) -> str:
    lines = [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]
    for labels, value in rows:
        text = ",".join(f'{label}="{content}"' for label, content in labels.items())
        lines.append(f"{name}{{{text}}} {value:g}" if text else f"{name} {value:g}")
    return "\n".join(lines) + "\n"
