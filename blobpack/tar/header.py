"""Make headers for new members, check names, and recognise the first header of a tar.

Headers are ustar where the name and the size fit, because every tar reader knows it, and its header takes 512 bytes. A
pax header takes 1,024 bytes more.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format".
"""

from __future__ import annotations

import os
from pathlib import Path

from blobpack._native.gather import encode_header
from blobpack.errors import UnsafeNameError
from blobpack.stores.arguments import is_place, local_path_of
from blobpack.stores.zstd.format import is_zstd

BLOCK = 512
END_OF_ARCHIVE = bytes(2 * BLOCK)


def member_header(name: bytes, size: int) -> bytes:
    """Make the header of a member, with mode 0644, owner 0 and modification time 0.

    Nothing in it comes from this machine, so that equal members give equal bytes everywhere.

    Args:
        name: Name of the member, which check_name has accepted.
        size: Bytes of the payload.

    Returns:
        512 bytes, or 1,536 and more if a pax header comes first.
    """
    return encode_header(name, size, 0)


def padding(size: int) -> bytes:
    """Return the zeros that fill up the last block behind a payload of this size."""
    return bytes(-size % BLOCK)


def begins_tar(block: bytes) -> bool:
    """Return whether a file's first block can begin a tar: it is a header with a right checksum, or zeros.

    A tar without members is its end-of-archive marker alone, which is zeros.
    """
    if len(block) < BLOCK:
        return False
    # The checksum is the sum of the header's bytes, with its own field taken as 8 spaces (POSIX, "ustar Interchange
    # Format", chksum). Some old tar programs summed signed chars: there, each byte over 127 counts 256 less.
    stored = block[148:156].split(b"\0")[0].strip()
    blanked = block[:148] + b" " * 8 + block[156:BLOCK]
    sums = (
        sum(blanked),
        sum(blanked) - 256 * sum(byte > 127 for byte in blanked),
    )
    return not any(block) or stored.lstrip(b"0") in [b"%o" % max(total, 0) for total in sums]


def is_blob_file(value: object) -> bool:
    """Return whether a value is the URL of a file, or the path of a tar, of a compressed tar or of an index.

    It is for messages about wrong arguments: what can't be read, or is no regular file, is none of these.
    """
    path = local_path_of(value)
    if path is None:
        return is_place(value)
    try:
        # opening a FIFO would wait for a writer
        if not os.path.isfile(path):  # noqa: PTH113 (a str)
            return False
        with Path(path).open("rb") as file:
            first = file.read(BLOCK)
    except OSError:
        return False
    return begins_tar(first) or is_zstd(first) or path.endswith(".idx")


def size_in(header: bytes) -> int | None:
    """Read the size from a header if it is octal; return None for other forms, such as base-256."""
    digits = header[124:136].strip(b" \0")
    return int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else None


def encode_name(name: str) -> bytes:
    """Encode a name as UTF-8, with surrogates for bytes that are not UTF-8, as Python does for file names.

    Raises:
        UnsafeNameError: the name holds surrogates that stand for no byte.
    """
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as exc:
        raise UnsafeNameError(
            f"{name!r} can't be the name of a member: it can't be encoded"
        ) from exc


def check_name(name: bytes) -> None:
    """Check that tar tools extract a name as it is, below the folder that they extract to.

    Raises:
        UnsafeNameError: the name is empty, absolute, ends in "/" or in a part ".", or holds ".." or NUL.
    """
    # An absolute name or ".." would be written outside the folder, or changed by tools that prevent this. A name that
    # ends in "/" or "." is that of a folder, and NUL ends a name in a header.
    parts = name.split(b"/")
    if name[:1] == b"/" or parts[-1] in (b"", b".") or b".." in parts or b"\0" in name:
        raise UnsafeNameError(
            f"{name.decode('utf-8', 'surrogateescape')!r} can't be the name of a member: it is empty, absolute, "
            f"ends in '/' or a part '.', or holds '..' or NUL"
        )
