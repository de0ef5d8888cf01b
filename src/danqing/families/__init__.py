"""One file per family of painters, and how to open one by name."""

from danqing.families._zoo import open_painter as open_painter
