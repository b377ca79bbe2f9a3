"""Hugging Face datasets: the members of a blob or collection as a Dataset that reads them when they are used."""

import lazy_loader

# As in blobpack itself: the package datasets is imported when the first name is used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
