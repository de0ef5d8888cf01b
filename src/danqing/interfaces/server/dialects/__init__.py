"""The HTTP interfaces of other programs, translated to our own jobs. There is no code for painting here."""
