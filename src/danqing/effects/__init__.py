"""Style effects by rendering: a photo becomes ink wash, a paper-cut or an oil painting at its own size.

An effect is a module with a function of the same name from a `Scene` to colours. It draws on no model, gives the
same picture for the same seed, and needs OpenCV and scikit-image: `pip install 'danqing[photos]'`. This table and
`render` are all that others need to know; importing them needs neither.
"""

from __future__ import annotations

EFFECTS: dict[str, str] = {
    "ink-wash": "水墨",
    "gongbi": "工笔",
    "blue-green": "青绿",
    "porcelain": "青花",
    "paper-cut": "剪纸",
    "new-year-print": "年画",
    "anime": "动漫",
    "cartoon": "卡通",
    "watercolour": "水彩",
    "oil": "油画",
    "pencil": "铅笔",
    "pixel-art": "像素",
    "mosaic": "马赛克",
    "ukiyo-e": "浮世绘",
}
"""All effects: name -> its name in Chinese."""
