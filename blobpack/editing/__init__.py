"""Changing or combining blobs that exist: append, merge, subset."""
