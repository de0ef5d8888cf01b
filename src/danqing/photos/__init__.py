"""Photo tools without a model: recognise a photo, cut out its subject, repair damage."""
