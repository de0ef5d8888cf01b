"""What is done with photos without a model: knowing one, cutting out its subject, mending damage."""
