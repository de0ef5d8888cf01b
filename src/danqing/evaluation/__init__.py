"""Measures the quality of painted pictures with an independent judge, also on held-out pairs."""
