"""Fine-tuning on a few pictures. The result is an `Adapter`, which can be removed bit-exactly."""
