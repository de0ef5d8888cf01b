"""DALL-E: tokens of a discrete autoencoder, written by a transformer."""

from danqing.families.dalle1 import painter as painter  # registers the family
