"""The stub of _native/copying.pyx."""

from typing_extensions import Buffer

from blobpack._native.results import Copied

def copy_pieces(
    from_fd: int, to_fd: int, pos: int, literals: Buffer, pieces: Buffer, sizes: Buffer
) -> Copied: ...
