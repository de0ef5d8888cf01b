"""Imagen: a cascade of diffusion models on pixels."""
