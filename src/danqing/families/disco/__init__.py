"""Disco Diffusion: another diffusion model guided by CLIP's gradient."""
