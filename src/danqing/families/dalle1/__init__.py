"""DALL-E: tokens of a discrete VAE, written by a transformer."""
