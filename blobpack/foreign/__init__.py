"""Indexes of tars that other programs write: recognised by their content, checked against the tar, and written."""
