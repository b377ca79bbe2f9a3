"""The stub of _native/copying.pyx."""

from typing_extensions import Buffer

def copy_pieces(
    from_fd: int, to_fd: int, pos: int, literals: Buffer, pieces: Buffer, sizes: Buffer
) -> tuple[bool, int, int]: ...
