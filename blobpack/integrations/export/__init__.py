"""Exports: files and records that list the images of a blob for other annotation tools."""

import lazy_loader

# As in blobpack itself: each name is loaded at its first use.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
