"""StyleGAN2-ADA."""

from danqing.families.stylegan import painter as painter  # registers the family
