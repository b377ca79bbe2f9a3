"""The public names, listed only here. `__init__.py` reads this file, and loads each name at its first use."""

from .dataset import to_dataset as to_dataset

__all__ = ["to_dataset"]
