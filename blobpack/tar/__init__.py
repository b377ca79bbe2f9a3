"""The tar format: headers, the scan of an archive, facts of payloads, and checks against an index."""
