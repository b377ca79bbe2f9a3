"""PyTorch: a map-style dataset and a stream of the samples in blobs, for its DataLoader."""

import lazy_loader

# As in blobpack itself: PyTorch is imported when the first name is used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
