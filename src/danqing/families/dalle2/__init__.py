"""DALL-E 2 (unCLIP): a prior, a decoder and an upsampler."""

from danqing.families.dalle2 import painter as painter  # registers the family
