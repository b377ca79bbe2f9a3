"""Ray Data: blobs and collections as datasets, and datasets as blobs with one collection."""

import lazy_loader

# As in blobpack itself: Ray is imported when the first name is used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
