"""Whole blobs as files, for clients that read blobs themselves: the gallery, `blobpack` with an http:// URL, or curl.

`/raw/<name>` is a blob, and `/raw/<name>.idx` its index, if the index is not inside the blob. For a collection,
`/raw/<name>/collection.idx` is its file, and its blobs are beside it, under their own names.

Strategy: a file is served as the one member of a blob that is not a tar. So ranges, conditions, tokens and reads are
those of members.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from blobpack.errors import BlobpackError
from blobpack.gateway.blobs import ServedBlob, copied
from blobpack.index.index import Index
from blobpack.model import Member
from blobpack.opening.blob import Blob
from blobpack.opening.collection import Collection
from blobpack.opening.kind import COLLECTION_NAME
from blobpack.recently_used import RecentlyUsed
from blobpack.stores.location import Location, is_absolute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.gateway.blobs import ServedBlobs, ServedMember
    from blobpack.indexfile.mapped import LocalIndex
    from blobpack.indexfile.remote import RemoteIndex
    from blobpack.stores.base import Store

# number of blobs of collections that can be read as files at the same time
FILES_KEPT = 256


class RawFile(ServedBlob):
    """A file that is served whole; it has no members."""

    __slots__ = ("_etag",)

    def __init__(self, name: str, store: Store, path: str) -> None:
        """Serve all bytes of a store.

        Args:
            name: Name of the blob that they belong to, which a token must cover.
            store: Delivers the bytes.
            path: Name of the file.
        """
        super().__init__(name, Blob(store, Index([Member(path, 0, store.size)])))
        # A collection records the ETags of its blobs, and readers compare them with those of answers.
        is_etag = store.version.isascii() and store.version[:1] == '"' == store.version[-1:]
        self._etag = store.version.encode() if is_etag else b'"%s"' % self.version.encode()

    def find(self, name: str) -> ServedMember | None:
        """Return the file as a member."""
        return self.at(0)._replace(etag=self._etag)


class RawFiles:
    """The files of all served blobs, by the path behind `/raw/`."""

    def __init__(self, blobs: ServedBlobs) -> None:
        self._files: dict[str, RawFile] = {}
        self._collections: dict[str, tuple[Collection, dict[str, int]]] = {}
        self._opened: RecentlyUsed[str, RawFile] = RecentlyUsed(FILES_KEPT)
        for blob in blobs:
            if isinstance(blob.reader, Collection):
                self._add_collection(blob, blob.reader)
            elif isinstance(blob.reader, Blob) and not blob.reader.store.is_compressed:
                self._add_blob(blob, blob.reader)

    def _add_blob(self, blob: ServedBlob, reader: Blob) -> None:
        self._files[blob.name] = RawFile(blob.name, reader.store, f"{blob.name}.tar")
        stored = reader.index._stored
        if stored is None or stored.url != reader.store.url:
            self._files[f"{blob.name}.idx"] = RawFile(
                blob.name, copied(reader.index), f"{blob.name}.idx"
            )

    def _add_collection(self, blob: ServedBlob, reader: Collection) -> None:
        stored = cast("LocalIndex | RemoteIndex", reader._stored)
        path = f"{blob.name}/{COLLECTION_NAME}"
        self._files[path] = RawFile(blob.name, stored._store, path)
        names = {reader._shards[number].name: number for number in range(len(reader._shards))}
        # blobs in other places are read from there, and not through this server
        here = {name: number for name, number in names.items() if not is_absolute(name)}
        self._collections[blob.name] = reader, here

    def shown(self) -> Iterator[tuple[str, RawFile, Location]]:
        """Yield each file that a gallery can show: its path behind `/raw/`, itself, and where it lies."""
        for path, file in self._files.items():
            if path in (file.name, f"{file.name}/{COLLECTION_NAME}"):
                yield path, file, Location.parse(file.reader.url)

    def resolve(self, path: str) -> tuple[ServedBlob, str] | None:
        """Return the file at a path; see ServedBlobs.resolve."""
        file = self._files.get(path) or self._opened.get(path)
        if file is not None:
            return file, ""
        for name, (reader, numbers) in self._collections.items():
            number = numbers.get(path.removeprefix(f"{name}/"))
            if number is not None and path.startswith(f"{name}/"):
                store = reader._open_blobs({number: None})[number]
                if isinstance(store, BlobpackError):
                    raise store
                return self._opened.put(path, RawFile(name, store, path)), ""
        return None
