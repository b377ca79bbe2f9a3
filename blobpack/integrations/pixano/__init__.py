"""Pixano: an importer, a dataset builder and the media of its application, all from blobs that are not unpacked."""

import lazy_loader

# each name is loaded at its first use: most of them need Pixano
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
