"""Editing: extend existing blobs, join them, or copy some of their members."""
