"""Members of blobs over HTTP: for browsers, for S3 clients, and as a gallery for eyes."""
