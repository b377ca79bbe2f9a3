"""Pack millions of small images into one tar, and read any of them with one ranged GET."""

import lazy_loader

__version__ = "0.1.0"

# `import blobpack` takes 3.5 ms, because it loads no module of the package: NumPy alone takes 131 ms. lazy_loader reads
# the public names from __init__.pyi, so that type checkers and this file have one list.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
