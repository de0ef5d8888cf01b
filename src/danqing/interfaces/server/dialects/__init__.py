"""The HTTP interfaces of other programs, as translations of our own jobs: no logic of painting is here."""
