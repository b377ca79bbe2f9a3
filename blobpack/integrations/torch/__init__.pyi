"""The public names, listed only here. `__init__.py` reads this file, and loads each name at its first use."""

from .dataset import BlobDataset as BlobDataset
from .stream import BlobStream as BlobStream

__all__ = ["BlobDataset", "BlobStream"]
