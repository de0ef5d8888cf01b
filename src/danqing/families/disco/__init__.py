"""Disco Diffusion: guides another diffusion model by the gradient of CLIP."""
