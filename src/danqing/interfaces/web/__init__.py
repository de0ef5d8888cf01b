"""The page of the studio: static files that a server sends as they are."""
