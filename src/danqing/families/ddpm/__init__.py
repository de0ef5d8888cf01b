"""DDPM: diffusion of pixels."""

from danqing.families.ddpm import painter as painter  # registers the family
