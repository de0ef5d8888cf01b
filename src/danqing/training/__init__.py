"""Training from data sets: one trainer for all losses, one more for GANs, and one objective per network."""
