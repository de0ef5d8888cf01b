"""Backends that run networks faster than plain PyTorch; the output of each is compared with PyTorch's."""
