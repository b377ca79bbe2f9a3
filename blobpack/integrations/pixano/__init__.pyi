"""The public names, listed only here. `__init__.py` reads this file, and loads each name at its first use."""

from .builder import BlobFolderBuilder as BlobFolderBuilder
from .importer import BlobImporter as BlobImporter

__all__ = [
    "BlobFolderBuilder",
    "BlobImporter",
]
