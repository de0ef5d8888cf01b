"""One file or package per family of painters, and a function that opens a painter by name.

A family, and torch with it, is imported when a painter of it is opened.
"""

from danqing.families._open import family_of as family_of
from danqing.families._open import open_clip_scorer as open_clip_scorer
from danqing.families._open import open_painter as open_painter
from danqing.families._open import shipped_clip_scorer as shipped_clip_scorer
