"""Download a blob, or any other file, and continue where an earlier download of it has ended.

Strategy: bytes go into a hidden file beside the target, which stays after an error or a kill. The next attempt, or the next
run, asks for the bytes behind those. If the server sends all of them again, the file is written from its start. What came is
verified before it takes its place.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from blobpack.errors import ChecksumError, StorageError, TruncatedError
from blobpack.progress import Progress
from blobpack.stores.http.retry import Fault
from blobpack.stores.output import sync_folder, translate_write_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import urllib3

    from blobpack.integrations.supervisely.documents import Document
    from blobpack.integrations.supervisely.server.rest import Rest
    from blobpack.progress import ProgressCallback

PIECE_BYTES = 1 << 20
# RFC 9110, 14.4
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


def download(
    rest: Rest,
    method: str,
    fields: Document,
    target: Path,
    *,
    verify: Callable[[Path], None],
    progress: ProgressCallback | None = None,
) -> None:
    """Download what a call returns into a file, which appears whole or not at all.

    Args:
        rest: The server.
        method: Name of the call.
        fields: The JSON of the request.
        target: Path of the file.
        verify: Called with the path of all bytes before they take their place. If it raises a BlobpackError, they are
            removed.
        progress: Called with the bytes that came.

    Raises:
        StorageError: the server refuses, or can't be reached; or the file can't be written, or another process downloads
            it.
    """
    # named after the call: a part of another blob must not be continued
    mark = hashlib.sha256(repr((rest.address, method, fields)).encode()).hexdigest()[:12]
    part = target.with_name(f".{target.name[:200]}.{mark}.part")
    with translate_write_errors(target), _locked(part, target) as file:
        _fill(rest, method, fields, file, progress)
        os.fsync(file.fileno())
        try:
            verify(part)
        except (TruncatedError, ChecksumError, ValueError):
            part.unlink()
            raise
        part.replace(target)
    sync_folder(target.parent)


@contextmanager
def _locked(part: Path, target: Path) -> Iterator[BinaryIO]:
    """Open the hidden file, for this process alone."""
    with open(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b") as file:  # noqa: PTH123
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"{target}: another process is downloading it") from None
        yield file


def _fill(
    rest: Rest,
    method: str,
    fields: Document,
    file: BinaryIO,
    progress: ProgressCallback | None,
) -> None:
    """Fetch bytes until all are there."""
    retries = rest.retries(method)
    while True:
        before = file.seek(0, os.SEEK_END)
        try:
            with rest.stream(method, fields, before) as response:
                total = _begin(response, file)
                # read1 returns what has come: `read` and `stream` drop what came before a connection is cut
                while piece := response.read1(PIECE_BYTES, decode_content=True):
                    file.write(piece)
                    if progress:
                        progress(Progress(0, file.tell(), None, total))
            # a body without a length may end anywhere
            if total is None or file.tell() == total:
                file.flush()
                return
            raise Fault(f"{file.tell()} of {total} bytes came")
        except Fault as fault:
            file.flush()
            # 416: the file is longer than what the server has, so it is of something else
            if fault.status == 416:
                file.truncate(0)
            has_progressed = file.seek(0, os.SEEK_END) > before
            if not retries.may_retry(fault, has_progressed=has_progressed):
                raise rest.failed(method, fault, retries.failed) from fault


def _begin(response: urllib3.BaseHTTPResponse, file: BinaryIO) -> int | None:
    """Set the place where a response continues; return the size of the whole, if it is known."""
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status == 206 and found:
        if int(found[1]) != file.tell():
            raise Fault(f"the server sent {found[0]} instead of the bytes from {file.tell()} on")
        return None if found[2] == "*" else int(found[2])
    file.seek(0)
    file.truncate()
    length = response.headers.get("Content-Length")
    return int(length) if length and "Content-Encoding" not in response.headers else None


def check_digest(path: Path, size: int, sha256: str) -> None:
    """Compare a file with what the server says of it.

    Args:
        path: Path of the file.
        size: Its size; -1 if it is not known.
        sha256: Its SHA-256 in base64; "" if it is not known.

    Raises:
        ChecksumError: the SHA-256 differs.
        TruncatedError: the size differs.
    """
    there = path.stat().st_size
    if size not in (-1, there):
        raise TruncatedError(f"{path}: {there} bytes came, and the server has {size}")
    if not sha256:
        return
    with path.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()
    if found != sha256:
        raise ChecksumError(f"{path}: its SHA-256 is {found}, and on the server {sha256}")
