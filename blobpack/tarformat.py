"""Headers for writing: ustar where it fits, pax only where it must.

Source: POSIX.1-2017, pax, "ustar Interchange Format".
"""

from __future__ import annotations

from blobpack._gather import encode_header
from blobpack.errors import UnsafeNameError

BLOCK = 512
END_OF_ARCHIVE = bytes(2 * BLOCK)


def member_header(name: bytes, size: int, mtime: int = 0) -> bytes:
    """Make a member's header: mode 0644, owner 0, and nothing of this machine.

    Args:
        name: The member's name, checked by check_name.
        size: The payload's bytes.
        mtime: Seconds since 1970 UTC.

    Returns:
        512 bytes; with a pax header before it, 1,536 or more.
    """
    return encode_header(name, size, mtime)


def padding(size: int) -> bytes:
    """Return the zeros that follow a payload of that size."""
    return bytes(-size % BLOCK)


def check_name(name: bytes) -> None:
    """Refuse a name that would not come out of a tar as it went in.

    Raises:
        UnsafeNameError: it is empty, absolute, ends in "/", or holds ".." or NUL.
    """
    if (
        not name
        or name[:1] == b"/"
        or name[-1:] == b"/"
        or b"\0" in name
        or b".." in name.split(b"/")
    ):
        raise UnsafeNameError(
            f"{name.decode('utf-8', 'surrogateescape')!r} can't be a member's name"
        )
