"""Headers for writing: ustar where it fits, pax only where it must.

Source: POSIX.1-2017, pax, "ustar Interchange Format".
"""

from __future__ import annotations

from blobpack._native.gather import encode_header
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


def begins_tar(block: bytes) -> bool:
    """Tell whether a file's first block may begin a tar: a header with a right checksum, or zeros."""
    if len(block) < BLOCK:
        return False
    stored = block[148:156].split(b"\0")[0].strip()
    blanked = block[:148] + b" " * 8 + block[156:BLOCK]
    sums = (
        sum(blanked),
        sum(blanked) - 256 * sum(byte > 127 for byte in blanked),
    )  # old tars: signed
    return not any(block) or stored.lstrip(b"0") in [b"%o" % max(total, 0) for total in sums]


def size_in(header: bytes) -> int | None:
    """Read the size a header states in octal; None where it is stated otherwise."""
    digits = header[124:136].strip(b" \0")
    return int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else None


def encode_name(name: str) -> bytes:
    """Turn a name into a tar's bytes.

    Raises:
        UnsafeNameError: it holds surrogates that stand for no bytes.
    """
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as exc:
        raise UnsafeNameError(f"{name!r} can't be a member's name") from exc


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
