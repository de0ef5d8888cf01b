"""What runs networks: backends that compute them faster than plain PyTorch, each held against it."""
