"""DALL-E 2 (unCLIP): a prior, a decoder and an upsampler."""
