"""The blobs that a server serves: their members, their names, and what happens if they change."""
