"""Disco Diffusion: another diffusion model guided by CLIP's gradient."""

from danqing.families.disco import painter as painter  # registers the family
