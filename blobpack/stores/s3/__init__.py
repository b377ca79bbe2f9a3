"""Objects in S3: requests about a bucket, reading, listing, signing and uploads."""
