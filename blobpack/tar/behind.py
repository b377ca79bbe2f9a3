"""Look at what lies behind the end of an archive: zeros, an index of blobpack, members of another tar, or other bytes.

A tar ends at its first zero block for every reader. So members behind it, of a tar that was joined by cat, are not found by
a scan unless it is asked to go on. And if a header was overwritten by zeros, all members behind it are lost.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from blobpack._native.scan import index_size_in
from blobpack.errors import LeftOutWarning, warn_caller
from blobpack.index.tables.offsets import void_path
from blobpack.indexfile.footer import INDEX_MAGIC
from blobpack.indexfile.overwritten import kept_index_path, present_path
from blobpack.tar.header import BLOCK, begins_tar, padding

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.model import ScanReport

# More than the zeros that fill up a tar's last record: 10,240 bytes by default, and rarely more than 1 MiB. A remote blob
# is looked at no further, because zeros cost as much to fetch as other bytes.
LOOK_BYTES_MAX = 1 << 20
# the first read, which is enough for a tar with records of 10,240 bytes, and the largest one
WINDOW_BYTES_MIN = 1 << 14
WINDOW_BYTES_MAX = 1 << 20
ZEROS = bytes(WINDOW_BYTES_MAX)

# docs/format.md promises these bytes to other readers: they stay as they are
UNDER_WAY = b"blobpack: an append is at work here, or was interrupted; index: "


class Behind(NamedTuple):
    """The first bytes behind the end of an archive, as the three fields of ScanReport that end in `behind`."""

    other_behind: int = 0
    members_behind: int = 0
    unseen_behind: int = 0


def look_behind(
    read: Callable[[int, int], bytes | memoryview], start: int, size: int, most: int | None
) -> Behind:
    """Find the first bytes behind an archive that are neither zeros nor an index.

    What an interrupted append or embedding has left is nobody's data, and not reported.

    Args:
        read: read(start, end) returns at least these bytes of the blob.
        start: Where the end-of-archive marker ends.
        size: Size of the blob.
        most: Bytes to look at, about; None for all.
    """
    pos, window = start, WINDOW_BYTES_MIN
    seen = 0
    while pos < size:
        if most is not None and seen >= most:
            return Behind(unseen_behind=size - pos)
        end = min(pos + window, size)
        content = bytes(read(pos, end)[: end - pos])
        seen += len(content)
        if content == ZEROS[: len(content)]:
            pos = end
            window = min(4 * window, WINDOW_BYTES_MAX)
            continue
        pos += (len(content) - len(content.lstrip(b"\0"))) // BLOCK * BLOCK
        block = bytes(read(pos, min(pos + BLOCK, size))[:BLOCK])
        index_bytes = index_size_in(block)
        if index_bytes is None:
            last_start = max(pos, size - BLOCK)
            return recognise(pos, block, bytes(read(last_start, size)[: size - last_start]))
        pos += BLOCK + index_bytes + len(padding(index_bytes))
    return Behind()


def is_at_work(fd: int) -> bool:
    """Return whether an append or embedding is at work on a local blob, or was killed.

    Then a part of its new bytes may stand behind the end of the archive, where they look like other data.
    """
    blob = present_path(fd)
    signs = (kept_index_path(blob, os.fstat(fd).st_ino), void_path(blob))
    # not Path.exists, which raises an error if a name is too long
    return any(map(os.path.exists, signs))


def recognise(pos: int, block: bytes, last: bytes) -> Behind:
    """Recognise the first bytes behind an archive that are neither zeros nor an index.

    Args:
        pos: Their offset.
        block: Their first block.
        last: The last block of the blob; empty if it is not known.
    """
    if block.startswith(UNDER_WAY) or last.startswith(UNDER_WAY):
        return Behind()
    if begins_tar(block):
        return Behind(members_behind=pos)
    # a tool that appends to a tar writes over the beginning of an index, and leaves its footer
    return Behind() if last.endswith(INDEX_MAGIC) else Behind(other_behind=pos)


def describe_members(offset: int) -> str:
    """Describe members that lie behind the end of an archive."""
    return f"members lie behind the end of the archive, from byte {offset} on"


def warn_of_left_out(url: str, report: ScanReport | Behind | None, *, remedy: str = "") -> None:
    """Warn if members, or what may be members, lie behind the end of the archive, where the scan did not go.

    Args:
        url: The blob.
        report: The report of its index; None if the index has none, as an offsets file does.
        remedy: What takes the members; empty for the command that makes an index with them.
    """
    if report is None:
        return
    if report.members_behind:
        remedy = remedy or f"`blobpack index --concatenated {url}` makes an index that has them"
        message = f"{describe_members(report.members_behind)}: they are left out; {remedy}"
    elif report.other_behind:
        message = (
            f"bytes that are no tar header lie behind the end of the archive, from byte {report.other_behind} on: "
            f"if a header was overwritten there, members are missing"
        )
    elif report.unseen_behind:
        message = (
            f"{report.unseen_behind} bytes behind the end of the archive were not looked at; "
            f"`blobpack verify {url}` looks at all of them"
        )
    else:
        return
    warn_caller(f"{url}: {message}", LeftOutWarning)
