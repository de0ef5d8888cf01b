"""The HTTP server: our own routes (docs/serving.md), and those of other programs as translations of them."""
