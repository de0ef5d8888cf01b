"""Stable Diffusion 1 and 2, and the shipped model."""
