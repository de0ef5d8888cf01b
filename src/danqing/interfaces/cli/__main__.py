"""`python -m danqing.interfaces.cli`, for systems where the `danqing` script is not on PATH."""

from __future__ import annotations

from danqing.interfaces.cli.main import main

if __name__ == "__main__":
    main()
