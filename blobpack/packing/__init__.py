"""Making blobs of files, objects in S3, payloads or other archives."""
