"""DALL-E: tokens of a discrete autoencoder, written by a transformer."""
