"""Editing: blobs that exist are extended, joined, or reduced to some of their members."""
