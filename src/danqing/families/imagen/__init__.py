"""Imagen: a cascade of diffusion models of pixels."""

from danqing.families.imagen import painter as painter  # registers the family
