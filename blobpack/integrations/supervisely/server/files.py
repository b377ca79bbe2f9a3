"""Team Files: blobs and offsets files that a team shares, and that several projects may use."""

from __future__ import annotations

import base64
import hashlib
import io
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from blobpack.errors import StorageError
from blobpack.integrations.supervisely.layout import BLOB_SUFFIX, OFFSETS_SUFFIX
from blobpack.integrations.supervisely.sources import stem_of
from blobpack.opening.open import opened
from blobpack.progress import Progress
from blobpack.stores.memory import MemoryStore
from blobpack.writing.offsets import write_offsets

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from blobpack.index.index import Index
    from blobpack.integrations.supervisely.documents import Document
    from blobpack.integrations.supervisely.server.rest import Rest
    from blobpack.opening.blob_rows import BlobPart
    from blobpack.opening.reader import Reader
    from blobpack.progress import ProgressCallback
    from blobpack.stores.base import Store

# where the SDK puts blobs (project/project.py, TF_BLOB_DIR)
BLOBS_FOLDER = "/blob-files"
PIECE_BYTES = 1 << 20


class TeamFile(NamedTuple):
    """A file of a team.

    Attributes:
        id: Its number.
        team_id: Number of the team.
        path: Its path, such as /blob-files/images.tar.
        size: Its size in bytes; -1 if the server does not say it.
        sha256: Its SHA-256 in base64; "" if the server does not say it.
    """

    id: int
    team_id: int
    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, info: Document, team_id: int = 0) -> TeamFile:
        """Return the file that the server describes."""
        size = (info.get("meta") or {}).get("size", info.get("size", info.get("sizeb")))
        return cls(
            info["id"],
            info.get("teamId", team_id),
            info["path"],
            -1 if size is None else int(size),
            info.get("hash") or "",
        )


def find_file(rest: Rest, team_id: int, path: str) -> TeamFile | None:
    """Return the file at a path; None if there is none."""
    fields = {"teamId": team_id, "path": path, "recursive": True}
    listed = rest.ask("file-storage.list", fields)
    return next((TeamFile.of(each, team_id) for each in listed if each["path"] == path), None)


def file_of(rest: Rest, team_file_id: int) -> TeamFile:
    """Return a file by its number."""
    return TeamFile.of(rest.ask("file-storage.info", {"id": team_file_id}))


class Upload:
    """A file that goes to a team, if the team has not got it yet."""

    def __init__(
        self, rest: Rest, team_id: int, store: Store, progress: ProgressCallback | None = None
    ) -> None:
        """Make an upload of a store's bytes."""
        self._rest = rest
        self._team_id = team_id
        self._store = store
        self._progress = progress
        self._sha256 = ""

    def sha256(self) -> str:
        """Return the SHA-256 of the bytes, in base64."""
        if not self._sha256:
            for _ in self._pieces():
                pass
        return self._sha256

    def put(self, path: str, *, replace: bool) -> TeamFile:
        """Upload to a path.

        Args:
            path: The path.
            replace: Replace another file at this path; False: upload to a path of its own, beside that file.
        """
        there = find_file(self._rest, self._team_id, path)
        if there is not None and self._is_there(there):
            return there
        if there is not None and not replace:
            # named after what it holds, so that a second upload finds it
            mark = base64.b64decode(self.sha256()).hex()[:8]
            beside = PurePosixPath(path)
            return self.put(
                str(beside.with_name(f"{beside.stem}-{mark}{beside.suffix}")), replace=True
            )
        return self._send(path)

    def _is_there(self, there: TeamFile) -> bool:
        if there.size not in (-1, self._store.size):
            return False
        return there.sha256 == self.sha256() if there.sha256 else there.size == self._store.size

    def _send(self, path: str) -> TeamFile:
        query = {"teamId": self._team_id, "path": path}
        size = self._store.size
        found = self._rest.send("file-storage.upload", query, self._shown_pieces, size)
        # an older server answers with a list
        file = TeamFile.of(found[0] if isinstance(found, list) else found, self._team_id)
        if not self._is_there(file):
            raise StorageError(
                f"{self._rest.address}: {path}: the server stored other bytes than were sent: {file.size} bytes, SHA-256 "
                f"{file.sha256 or 'unknown'}, and not {size} bytes, {self._sha256}"
            )
        return file

    def _shown_pieces(self) -> Iterator[bytes]:
        done = 0
        for piece in self._pieces():
            yield piece
            done += len(piece)
            if self._progress:
                self._progress(Progress(0, done, None, self._store.size))

    def _pieces(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for start in range(0, self._store.size, PIECE_BYTES):
            piece = self._store.read_range(start, min(start + PIECE_BYTES, self._store.size))
            digest.update(piece)
            yield piece
        self._sha256 = base64.b64encode(digest.digest()).decode()


def upload_blob(
    rest: Rest,
    team_id: int,
    part: BlobPart,
    index: Index | None,
    path: str | None,
    progress: ProgressCallback | None,
) -> TeamFile:
    """Upload a blob, as a plain tar, and its offsets file beside it.

    Args:
        rest: The server.
        team_id: Number of the team.
        part: The blob.
        index: The members of its offsets file; None to upload none.
        path: Path in Team Files; None for the SDK's folder and the blob's own name.
        progress: Called with the bytes that were sent.
    """
    # first, because two images of one name are found here
    offsets = None if index is None else offsets_bytes(index)
    with part.opened() as store:
        default = f"{BLOBS_FOLDER}/{stem_of(part)}{BLOB_SUFFIX}"
        blob = Upload(rest, team_id, store, progress).put(path or default, replace=False)
    if offsets is not None:
        beside = PurePosixPath(blob.path)
        put_bytes(rest, team_id, offsets, str(beside.with_name(beside.stem + OFFSETS_SUFFIX)))
    return blob


def offsets_bytes(index: Index) -> bytes:
    """Return the offsets file of members."""
    memory = io.BytesIO()
    write_offsets(index, memory, names="basename")
    return memory.getvalue()


def put_bytes(rest: Rest, team_id: int, data: bytes, path: str) -> TeamFile:
    """Upload bytes to a path, in place of another file there."""
    return Upload(rest, team_id, MemoryStore(data, path)).put(path, replace=True)


@contextmanager
def one_blob(source: Reader | str | os.PathLike[str]) -> Iterator[tuple[BlobPart, Index]]:
    """Open a blob, and yield it and its members.

    Raises:
        ValueError: the source is a collection.
    """
    with opened(source) as reader:
        parts = list(reader._each_blob())
        if len(parts) != 1:
            raise ValueError(f"blob must be one blob, and {reader.url} has {len(parts)}")
        yield parts[0], parts[0].read_index()


def showing(progress: ProgressCallback | None, total: int | None = None) -> Callable[[int], None]:
    """Return a function that adds a number of images to the progress."""
    done = 0

    def show(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(Progress(done, 0, total))

    return show
