"""Members of blobs as objects of a read-only S3 server."""
