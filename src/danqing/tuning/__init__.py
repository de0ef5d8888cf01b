"""Learning from a few pictures. All that is learned is an `Adapter`, which comes off bit-exactly."""
