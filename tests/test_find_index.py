"""An index file that is there but can't be read is an error: only one that is not there lets the blob be scanned."""

from __future__ import annotations

import errno
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from s3server import close_idle_connections
from tars import Tar

import blobpack
from blobpack import MissingIndexWarning, StaleIndexError, StorageError
from blobpack.indexfile.footer import sidecar_of
from blobpack.opening.find_index import embedded_index, find_index
from blobpack.stores.http import retry
from blobpack.stores.memory import MemoryStore
from blobpack.writing.embed import embed_index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FileServer(ThreadingHTTPServer):
    """An HTTP server of files in memory.

    Attributes:
        files: Path → bytes of the file, or the status that answers each request for it; others are 404.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes | int] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers ranged GETs."""

    server: FileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with a range of a file, or with a status."""
        file = self.server.files.get(self.path, 404)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers["Range"] or "")
        body = b""
        if isinstance(file, int) or asked is None:
            self.send_response_only(404 if asked is None else file)
        else:
            first, last = asked.groups()
            start = int(first) if first else max(0, len(file) - int(last))
            end = min(int(last) + 1, len(file)) if first and last else len(file)
            body = file[start:end]
            self.send_response_only(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(file)}")
            self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    monkeypatch.setattr(retry, "TRIED_FOR_S", 0)
    monkeypatch.setattr(retry, "BACKOFF_MAX_S", 0.001)
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        close_idle_connections()
        server.shutdown()
        thread.join()


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    """A blob without an index, and an index file beside it."""
    blobpack.pack([("a.txt", b"a" * 700)], tmp_path / "o.tar", all_files=True, index="sidecar")
    return tmp_path / "o.tar"


@pytest.mark.parametrize("status", [404, 403])
def test_a_server_without_the_index_file_lets_the_blob_be_scanned(
    status: int, server: FileServer, blob: Path
) -> None:
    """S3 says 403 of an object that is not there to those who may not list the bucket."""
    server.files = {"/o.tar": blob.read_bytes(), "/o.tar.idx": status}
    with (
        pytest.warns(MissingIndexWarning),
        blobpack.open_blob(f"{server.url}/o.tar") as opened,
    ):
        assert opened.read("a.txt") == b"a" * 700


@pytest.mark.parametrize("status", [500, 503, 400, 401])
def test_a_server_that_fails_for_the_index_file_is_an_error(
    status: int, server: FileServer, blob: Path
) -> None:
    """The scan of a large blob far away would take many requests, and nobody would know why."""
    server.files = {"/o.tar": blob.read_bytes(), "/o.tar.idx": status}
    with pytest.raises(StorageError, match=rf"o\.tar\.idx: .*{status}"):
        blobpack.open_blob(f"{server.url}/o.tar")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_local_index_file_that_can_not_be_opened_is_an_error(
    number: int, blob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions don't bind root, so the error is raised here."""
    real, sidecar = os.open, str(sidecar_of(blob))

    def refuses(path: str | os.PathLike[str], *arguments: int, **options: int) -> int:
        if os.fspath(path) == sidecar:
            raise OSError(number, os.strerror(number))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuses)
    with pytest.raises(StorageError, match=r"o\.tar\.idx: ") as caught:
        blobpack.open_blob(blob)
    assert os.strerror(number) in str(caught.value)


def test_a_loop_of_links_in_the_place_of_the_index_file_is_an_error(blob: Path) -> None:
    sidecar = sidecar_of(blob)
    os.unlink(sidecar)
    os.symlink(os.path.basename(sidecar), sidecar)
    with pytest.raises(StorageError, match=r"o\.tar\.idx: "):
        blobpack.open_blob(blob)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(-1, id="the archive"),
        pytest.param(-4096, id="the first byte that is compared"),
        pytest.param(0, id="the name of the index"),
        pytest.param(511, id="the last byte of its header"),
        pytest.param(512, id="its first byte"),
        pytest.param(519, id="the last byte of the magic"),
    ],
)
@pytest.mark.parametrize("is_damaged", [False, True])
def test_bytes_that_were_damaged_on_their_way_are_read_once_more(
    is_damaged: bool, place: int, tmp_path: Path
) -> None:
    """The opening request brought the last bytes; only the second request shows whether the blob itself is damaged."""
    path = tmp_path / "o.tar"
    index = blobpack.pack([("a.txt", b"a" * 9000)], path, all_files=True).index
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[index.identity.archive_bytes + place] ^= 1
    store = MemoryStore(bytes(damaged) if is_damaged else whole)
    store.tail = bytes(damaged)
    if is_damaged:
        with pytest.raises(StaleIndexError, match=r"last 4096 bytes|was overwritten"):
            embedded_index(store)
    else:
        assert [*embedded_index(store)] == [*index]


@pytest.mark.parametrize("zeros", [0, 20_480])
def test_only_an_archive_that_ended_before_its_last_bytes_takes_a_request_more(
    zeros: int, tmp_path: Path
) -> None:
    """Members may have been put over the zeros of its last record."""
    path = tmp_path / "o.tar"
    path.write_bytes(bytes(Tar().file("a", b"a" * 9000).end(bytes(1024 + zeros)).blob))
    end = embed_index(path).report.bytes_scanned
    read: list[tuple[int, int]] = []

    class RecordingStore(MemoryStore):
        def fetch(self, start: int, end: int) -> bytes:
            read.append((start, end))
            return super().fetch(start, end)

    assert len(embedded_index(RecordingStore(path.read_bytes()))) == 1
    assert ((end, end + 512) in read) == (zeros > 0)


@pytest.mark.parametrize("is_remote", [False, True])
def test_the_warning_names_the_command_that_puts_an_index_beside_the_blob(
    is_remote: bool, server: FileServer, blob: Path
) -> None:
    """`blobpack index` writes the index of a remote blob into the current folder, where nobody looks for it."""
    os.unlink(sidecar_of(blob))
    server.files = {"/o.tar": blob.read_bytes()}
    url = f"{server.url}/o.tar" if is_remote else str(blob)
    command = f"`blobpack index {url}`"
    # a web server takes no files
    if is_remote:
        command = f"`blobpack index {url} -o FILE` makes one that opens at once with index='FILE'"
    with (
        pytest.warns(MissingIndexWarning, match=re.escape(command)) as caught,
        blobpack.open_blob(url) as opened,
    ):
        assert opened.read("a.txt") == b"a" * 700
    # the line that opened it
    assert [warning.filename for warning in caught] == [__file__]


def test_a_blob_in_memory_has_no_place_for_an_index_beside_it() -> None:
    store = MemoryStore(bytes(1024))
    store.is_remote = True
    with pytest.warns(MissingIndexWarning, match=r"`blobpack index memory:` makes one"):
        assert len(find_index(store, None, "refuse")) == 0
