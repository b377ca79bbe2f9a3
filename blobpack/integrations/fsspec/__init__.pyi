"""The public names, listed only here. `__init__.py` reads this file, and loads each name at its first use."""

from .filesystem import BlobFileSystem as BlobFileSystem

__all__ = ["BlobFileSystem"]
