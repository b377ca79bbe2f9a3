"""CRC-32C for Python code, from the native code that computes all checksums."""

from __future__ import annotations

from blobpack._native.checksums import crc32c

__all__ = ["crc32c"]
