"""Members of blobs over HTTP: for browsers, for S3 clients, and in a gallery."""
