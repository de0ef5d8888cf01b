"""Imagen: a cascade of diffusion models of pixels."""
