"""Blobs in other clouds than S3, through obstore, and behind other URLs that fsspec knows."""
