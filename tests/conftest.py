"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# no deadline: a busy machine is slow, not wrong; no example database: a test leaves no files behind
settings.register_profile("danqing", deadline=None, database=None)
settings.load_profile("danqing")
