"""fsspec: a file system of the members of a blob or collection, for pandas, Dask, PyArrow and others."""

import lazy_loader

# As in blobpack itself: fsspec is imported when the first name is used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
