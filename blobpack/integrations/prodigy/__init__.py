"""Prodigy: tasks of the members of a blob or of images in S3, a loader, recipes, and what recipes of one's own need."""

import lazy_loader

# As in blobpack itself: a program that only puts pixels back into examples does not load the code that lists S3.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
