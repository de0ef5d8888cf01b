"""One file per family of painters, and how to open one by name.

The families themselves, and torch with them, are imported when a painter is opened.
"""

from danqing.families._zoo import open_critic as open_critic
from danqing.families._zoo import open_painter as open_painter
from danqing.families._zoo import shipped as shipped
from danqing.families._zoo import shipped_critic as shipped_critic
from danqing.families._zoo import shipped_part as shipped_part
from danqing.families._zoo import unknown_model as unknown_model
