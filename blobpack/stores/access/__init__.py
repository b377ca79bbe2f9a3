"""Access to remote blobs: accounts, servers, headers, proxies and certificates. No module here imports boto3."""
