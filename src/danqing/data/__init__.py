"""Data sets of captioned pictures: build and read them, and their vocabulary in English and Chinese."""
