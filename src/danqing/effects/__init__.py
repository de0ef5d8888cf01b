"""Style effects by rendering: a photo becomes ink wash, a paper-cut or an oil painting at its own size.

An effect is a module with a palette and a function of the same name, which maps a `Scene` to colours. It uses
no model, gives the same picture for the same seed, and needs `pip install 'danqing[photos]'`. Other packages
use the list of names here and `rendering.render`. The names are those of style packs, which have them in
Chinese too.
"""

EFFECTS: tuple[str, ...] = (
    "ink-wash",
    "gongbi",
    "blue-green",
    "porcelain",
    "paper-cut",
    "new-year-print",
    "anime",
    "cartoon",
    "watercolour",
    "oil",
    "pencil",
    "pixel-art",
    "mosaic",
    "ukiyo-e",
)
