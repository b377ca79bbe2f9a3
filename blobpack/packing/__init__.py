"""Packing: files, objects in S3, payloads or other archives become blobs."""
