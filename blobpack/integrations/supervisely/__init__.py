"""Supervisely's blob projects: offsets, local projects and the server's REST API, without Supervisely's SDK."""

import lazy_loader

# As in blobpack itself: a program that only opens a project does not load the code that talks to a server.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
