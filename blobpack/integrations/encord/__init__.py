"""Encord: files that register the members of a blob by their URLs, a check of such files, and the way back to a blob."""

import lazy_loader

# As in blobpack itself: a program that only checks a file does not load what makes or sends them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
