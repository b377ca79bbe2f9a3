"""The public names, listed only here. `__init__.py` reads this file, and loads each name at its first use."""

from .read import read_blobs as read_blobs
from .where import Conditions as Conditions
from .write import write_blobs as write_blobs

__all__ = ["Conditions", "read_blobs", "write_blobs"]
