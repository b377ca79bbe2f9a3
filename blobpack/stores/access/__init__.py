"""How remote blobs are reached: accounts, servers, headers, proxies and certificates. No module here imports boto3."""
