"""DDPM: diffusion of pixels."""
