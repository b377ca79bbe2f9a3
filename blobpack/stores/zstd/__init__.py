"""Blobs compressed as seekable zstd: the format, and the store that reads such a blob as the tar."""
