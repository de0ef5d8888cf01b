"""DALL-E: a transformer predicts the tokens of a discrete VAE."""
