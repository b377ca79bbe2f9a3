"""A blob that a server serves, open under a name, and its members as HTTP sees them.

Strategy: members are looked up in an index that is mapped from a local file. Such a look-up takes a microsecond, never
waits, and needs no memory. So the index of a remote blob is copied into a temporary file when the blob is added. Only
payloads are read from the blob itself; `gateway/payloads.py` does that.
"""

from __future__ import annotations

import hashlib
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from blobpack.index.index import Index
from blobpack.indexfile.open import open_stored, read_footer
from blobpack.indexfile.remote import RemoteIndex
from blobpack.opening.blob import Blob
from blobpack.stores.local import LocalStore
from blobpack.stores.location import Location
from blobpack.stores.sink import FileSink

if TYPE_CHECKING:
    from blobpack.indexfile.footer import Footer
    from blobpack.indexfile.identity import Identity
    from blobpack.opening.reader import Reader
    from blobpack.stores.base import Store

# of a SHA-256: 48 bits tell the versions of one blob apart, and stay short in URLs
VERSION_DIGITS = 12


class ServedMember(NamedTuple):
    """A member with the facts that an answer needs.

    Attributes:
        blob: The blob that holds it.
        row: Its row there.
        name: Its name, with surrogates for bytes that are not UTF-8 (PEP 383).
        start: Start of its payload in the blob.
        end: End of its payload.
        media_type: Media type that the index records; None if it records none.
        width: Width as shown, in pixels; None if it is not known.
        height: Height as shown.
        crc32c: Checksum of the payload; None if it is not known.
        mtime: Time of its last change, in seconds since 1970 UTC; None if it is not known.
        etag: Strong entity tag of its payload, with quotes.
    """

    blob: ServedBlob
    row: int
    name: str
    start: int
    end: int
    media_type: str | None
    width: int | None
    height: int | None
    crc32c: int | None
    mtime: int | None
    etag: bytes

    @property
    def size(self) -> int:
        """Size of the payload in bytes."""
        return self.end - self.start


class ServedBlob:
    """A blob or collection under the name by which it is served.

    Attributes:
        name: The name.
        url_name: The name as URLs hold it: with the version if the blob is served as that version alone.
        reader: Reads its payloads.
        index: Its members, in memory or mapped: looking at them takes no request.
        version: Short digest of its identity: another version of the blob has another one.
        is_pinned: Whether no other bytes will ever be served under this name.
        is_remote: Whether reading a payload may send requests.
        tried_s: When it was last tried to open it anew; see renewal.py.
    """

    __slots__ = (
        "_find",
        "_member_at",
        "_number_of",
        "_store",
        "_tags",
        "index",
        "is_pinned",
        "is_remote",
        "name",
        "reader",
        "tried_s",
        "url_name",
        "version",
    )

    def __init__(self, name: str, reader: Reader, *, pinned: bool = False) -> None:
        """Serve a reader, whose index is copied if it is remote. The caller closes the reader.

        Raises:
            BlobpackError: the index can't be read.
        """
        self.name = self.url_name = name
        self.reader, self.is_pinned = reader, pinned
        is_mapped = not isinstance(reader.index._stored, RemoteIndex)
        self.index = reader.index if is_mapped else mapped_copy(reader.index)
        # the blobs of a collection are either all remote or all local
        self.is_remote = any(not Location.parse(blob.url).is_local for blob in reader.blobs[:1])
        self.version = self._version()
        self._tags: dict[int, bytes] = {}
        # methods bound once: finding an attribute would take a noticeable part of the time of a look-up by name
        self._find, self._member_at = self.index._find, self.index._member_at
        self._number_of = reader._number_of
        self._store = reader.store if isinstance(reader, Blob) else None
        self.tried_s = 0.0

    def pinned(self) -> ServedBlob:
        """Return this blob under the name that holds its version: `name@version`."""
        twin = object.__new__(ServedBlob)
        for slot in ServedBlob.__slots__:
            setattr(twin, slot, getattr(self, slot))
        twin.url_name, twin.is_pinned = f"{self.name}@{self.version}", True
        return twin

    @property
    def has_media_types(self) -> bool:
        """Whether the index records media types."""
        return "media_type" in self.index.facts

    @property
    def is_changed(self) -> bool:
        """Whether the file of a single local blob is another one by now, and may be opened anew."""
        return self._store is not None and not self.is_pinned and self._store.is_replaced

    def find(self, name: str) -> ServedMember | None:
        """Return the last member with a name; None if there is none."""
        row = self._find(name)
        return None if row < 0 else self.at(row)

    def at(self, row: int) -> ServedMember:
        """Return the member in a row, 0 ≤ row < members."""
        member = self._member_at(row)
        start, end, crc32c = member.offset_start, member.offset_end, member.crc32c
        tag = self._tag_of(row)
        # Without checksums, the blob's version and the place of the payload in it still name its bytes.
        etag = b'"%s-%x-%x"' % (tag, start, end - start if crc32c is None else crc32c)
        # a NamedTuple's own constructor takes twice as long, and this code runs for each image
        return tuple.__new__(
            ServedMember,
            (
                self,
                row,
                member.name,
                start,
                end,
                member.media_type,
                member.width,
                member.height,
                crc32c,
                member.mtime,
                etag,
            ),
        )

    def open_store(self, row: int) -> Store | None:
        """Return the store that holds a row; None if it is one of a collection, and not open."""
        return self._store or self.reader._open_store(self._number_of(row))

    def _tag_of(self, row: int) -> bytes:
        """Return the digest of the identity of the one blob that holds a row."""
        number = self._number_of(row)
        tag = self._tags.get(number)
        if tag is None:
            tag = self._tags[number] = self._digest((number,)).encode()
        return tag

    def _version(self) -> str:
        return self._digest(range(len(self.reader.blobs)))

    def _digest(self, numbers: range | tuple[int, ...]) -> str:
        found = hashlib.sha256()
        for number in numbers:
            found.update(repr(self._identity(number)).encode())
        return found.hexdigest()[:VERSION_DIGITS]

    def _identity(self, number: int) -> Identity | str:
        """Return what names the state of a blob: its identity, or its version if the index records no identity."""
        store = self.reader._open_store(number)
        return self.reader._identity_of(number) or (store.version if store else "")


class CopiedIndex(LocalStore):
    """A copy of an index in a file without a name, which nobody can replace."""

    is_replaced = False


def mapped_copy(index: Index) -> Index:
    """Copy an index into a file without a name, in bounded memory, and map it from there.

    Raises:
        StorageError: the index can't be read.
    """
    store = copied(index)
    return Index._from_stored(open_stored(store, 0, cast("Footer", read_footer(store))))


def copied(index: Index) -> LocalStore:
    """Return the store of a file without a name, into which an index is written.

    Raises:
        StorageError: the index can't be read.
    """
    # the store keeps the file until it is closed or dropped
    with TemporaryFile(prefix="blobpack-index-") as file:
        sink = FileSink(cast("BinaryIO", file))
        sink.write(index._write_sections(sink, index.identity).encode())
        sink.flush()
        return CopiedIndex("a copy of an index", fd=file.fileno())
