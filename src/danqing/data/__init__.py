"""Data sets of captioned pictures: building them, reading them, and words for them in English and Chinese."""
