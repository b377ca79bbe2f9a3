"""Pack millions of small images into one tar, and read any of them with one ranged GET."""

import lazy_loader

__version__ = "0.1.0"

# `import blobpack` loads no module of the package. The names stand in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
