"""Whole blobs as files, for clients that read blobs themselves: the gallery, `blobpack` with an http:// URL, or curl.

`/raw/<name>` is a blob, and `/raw/<name>.idx` its index, if the index is not inside the blob. For a collection,
`/raw/<name>/collection.idx` is its file, and its blobs are beside it, under their own names.

Strategy: a file is served as the one member of a blob that is not a tar. So ranges, conditions, tokens and reads are
those of members.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from blobpack.errors import BlobpackError
from blobpack.gateway.served.blob import ServedBlob, copied
from blobpack.index.index import Index
from blobpack.model import Member
from blobpack.opening.blob import Blob
from blobpack.opening.collection import Collection
from blobpack.opening.kind import COLLECTION_NAME
from blobpack.recently_used import RecentlyUsed
from blobpack.stores.location import Location, is_absolute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.gateway.served.blob import ServedMember
    from blobpack.gateway.served.blobs import ServedBlobs
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
    """The files of all served blobs, by the path behind `/raw/`.

    Attributes:
        renewal: That of the blobs.
    """

    def __init__(self, blobs: ServedBlobs) -> None:
        self.renewal = blobs.renewal
        self._files: dict[str, RawFile] = {}
        self._collections: dict[str, tuple[Collection, dict[str, int]]] = {}
        self._opened: RecentlyUsed[str, RawFile] = RecentlyUsed(FILES_KEPT)
        for blob in blobs:
            if isinstance(blob.reader, Collection):
                self._add_collection(blob, blob.reader)
            else:
                self._add_blob(blob)
        blobs.follow(self._add_blob)

    def _add_blob(self, blob: ServedBlob) -> None:
        """Serve the files of a single blob in place of those of the blob that had its name before."""
        name, reader = blob.name, blob.reader
        found = {}
        if isinstance(reader, Blob) and not reader.store.is_compressed:
            found[name] = RawFile(name, reader.store, f"{name}.tar")
            stored = reader.index._stored
            if stored is None or stored.url != reader.store.url:
                found[f"{name}.idx"] = RawFile(name, copied(reader.index), f"{name}.idx")
        others = {path: file for path, file in self._files.items() if file.name != name}
        self._files = others | found

    def _add_collection(self, blob: ServedBlob, reader: Collection) -> None:
        stored = cast("LocalIndex | RemoteIndex", reader._stored)
        path = f"{blob.name}/{COLLECTION_NAME}"
        self._files[path] = RawFile(blob.name, stored._store, path)
        names = {reader._shards[number].name: number for number in range(len(reader._shards))}
        # blobs in other places are read from there, and not through this server
        here = {name: number for name, number in names.items() if not is_absolute(name)}
        self._collections[blob.name] = reader, here

    def shown(self) -> Iterator[tuple[str, RawFile, Location | None]]:
        """Yield each file that a gallery can show: its path behind `/raw/`, itself, and where it lies."""
        for path, file in self._files.items():
            if path in (file.name, f"{file.name}/{COLLECTION_NAME}"):
                yield path, file, file.reader._location

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
