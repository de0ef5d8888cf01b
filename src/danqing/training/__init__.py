"""One trainer, one objective per network."""
