"""Readers and writers of the file formats in which weights are published."""
