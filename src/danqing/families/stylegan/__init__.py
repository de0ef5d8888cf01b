"""StyleGAN2-ADA."""
