"""Exports: the files and records by which other annotation tools find the images of a blob."""

import lazy_loader

# As in blobpack itself: each name is loaded at its first use.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
