"""Stable Diffusion 1 and 2, and the shipped model."""

from danqing.families.stable_diffusion import painter as painter  # registers the family
