"""Objects in S3, URLs and files as payloads to pack: many are fetched at once, in the order of their names.

Strategy: sizes come first, from the listing or from opening each object. Then threads fetch payloads ahead of the
one that is packed, as many as fit into a bound in bytes. Without the sizes, the bound could only be a number of
objects: 48 objects of 24 MiB took 1,836 MiB of memory that way, and take 279 MiB now.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from blobpack._native.gather import recognise_image
from blobpack._native.packed import normal_name
from blobpack.errors import (
    BlobChangedError,
    BlobNotFoundError,
    DuplicateNameError,
    SourceError,
    StorageError,
    UnsafeNameError,
)
from blobpack.look_ahead import map_ahead
from blobpack.packing.files import IMAGE_HEAD_BYTES, Skipped, match_filters, member_bytes_max
from blobpack.stores.access.objects import find_object, list_objects, open_object
from blobpack.stores.open import is_denied, open_store
from blobpack.tar.header import check_name, encode_name
from blobpack.tar.names import first_clash, is_hidden

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from blobpack.packing.names import NameChange
    from blobpack.stores.access.listed import Listed
    from blobpack.stores.base import Store
    from blobpack.stores.location import Location
    from blobpack.stores.s3.signing import Signatures

# With 25 ms for each GET, 64 at once fetch 2,500 objects a second, four times as many as 16 at
# once. On loopback, 64 are not slower than 16.
OBJECTS_AT_ONCE = 64
# Bound on the payloads that wait for their turn. A payload that is larger than this waits alone.
PAYLOADS_AHEAD_BYTES = 64 << 20
# the head of a larger object is read first, so that a video that is skipped is not fetched; smaller objects are
# fetched whole, which saves a request for each image
LARGE_OBJECT_BYTES = 16 << 20


# Why a key such as "photos//1.jpg" is skipped below "photos/", and the ways to pack its object.
ODD_KEY = "a key that is no name for a member: pack its URL, or a manifest with a name for it"


class Source(NamedTuple):
    """One object or file to pack.

    Attributes:
        name: Name of its member.
        location: Its path or URL.
        size: Its bytes; -1 if they are not known yet.
        version: Its ETag when it was listed; empty if it was not listed, or if the server lists no ETags.
    """

    name: bytes
    location: Location
    size: int = -1
    version: str = ""


class LeftOut(NamedTuple):
    """An object or file that a list names, and that is not packed.

    Attributes:
        reason: Why it is not.
        name: Its name, in bytes.
        url: Its path or URL, without secrets.
    """

    reason: str
    name: bytes
    url: str


class OpenedObject(NamedTuple):
    """An object or file whose size is known.

    Attributes:
        size: Its bytes.
        store: The open store of a remote object that was not listed; otherwise None.
    """

    size: int
    store: Store | None = None


class Objects:
    """Objects and files to pack: an iterable of (name, payload) pairs, in byte order of the names.

    Attributes:
        left_out: What the list names besides them.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        images_only: bool = False,
        left_out: Sequence[LeftOut] = (),
    ) -> None:
        """Sort the sources by name.

        Args:
            sources: The objects and files.
            images_only: For large objects that are not images, return only the first bytes as the payload: these
                are enough for the caller to see that it skips the object.
            left_out: What the list names besides them.

        Raises:
            DuplicateNameError: two sources have one name.
        """
        self._sources = sorted(sources, key=lambda source: source.name)
        self._images_only = images_only
        self.left_out = left_out
        # shared by all objects: boto3 signs one request for each bucket and minute, and the signatures of the others
        # are derived from that, in a sixth of the processor time
        self._signatures: Signatures | None = None
        # only listed objects use it; its import brings boto3, which packing local files does not need
        if any(source.size >= 0 and source.location.is_s3 for source in self._sources):
            from blobpack.stores.s3.signing import Signatures

            self._signatures = Signatures()
        rows = first_clash([source.name for source in self._sources])
        if rows is not None:
            one, other = (self._sources[row] for row in rows)
            name = normal_name(one.name.decode("utf-8", "surrogateescape"))
            raise DuplicateNameError(
                f"{one.location.text!r} and {other.location.text!r} would both be member {name!r}"
            )

    def __len__(self) -> int:
        return len(self._sources)

    def filter(
        self, globs: Sequence[str], exclude: Sequence[str], skipped: Skipped, *, images_only: bool
    ) -> Objects:
        """Return the objects whose names pass the filters, so that the others are never fetched."""
        sources = self._sources
        if globs or exclude:
            passed = match_filters([source.name for source in sources], globs, exclude)
            for source, kept in zip(sources, passed, strict=True):
                if not kept:
                    skipped.add("filtered out", source.name)
            sources = [source for source, kept in zip(sources, passed, strict=True) if kept]
        return Objects(sources, images_only=images_only)

    def path_of(self, name: bytes) -> str:
        """Return the path or URL of the object that has this name."""
        row = bisect_left(self._sources, name, key=lambda source: source.name)
        return self._sources[row].location.text

    def renamed(self, change: NameChange) -> Objects:
        """Return the objects with other names.

        Raises:
            DuplicateNameError: two objects have one name.
            UnsafeNameError: nothing is left of a name.
        """
        return Objects(
            source._replace(name=change.apply(source.name, source.location.text))
            for source in self._sources
        )

    def without(self, blob: Location, skipped: Skipped) -> Objects:
        """Return all objects but the blob that is about to be replaced."""
        for source in self._sources:
            if source.location == blob:
                skipped.add("the blob itself", source.name)
        return Objects(source for source in self._sources if source.location != blob)

    def total_bytes(self) -> int | None:
        """Return an upper bound for the bytes of a blob of these objects, or None if a size is not known."""
        if any(source.size < 0 for source in self._sources):
            return None
        return sum(member_bytes_max(source.name, source.size) for source in self._sources)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Fetch the payloads, many ahead of the one that is returned, within the bound in bytes.

        Raises:
            SourceError: an object can't be read, or changed since it was listed.
        """
        # closing: if packing fails, the threads stop at once, and not when the generators are collected
        with (
            closing(self._opened()) as opened,
            closing(
                map_ahead(
                    self._read,
                    opened,
                    threads=OBJECTS_AT_ONCE,
                    most_size=PAYLOADS_AHEAD_BYTES,
                    size_of=lambda pair: pair[1].size,
                    name="objects",
                )
            ) as payloads,
        ):
            yield from payloads

    def _opened(self) -> Generator[tuple[Source, OpenedObject], None, None]:
        """Yield the sources with their sizes, in order; sources that were not listed are opened ahead."""
        if all(source.size >= 0 for source in self._sources):
            return ((source, OpenedObject(source.size)) for source in self._sources)
        # Not in the threads that fetch payloads: PAYLOADS_AHEAD_BYTES leaves most of those idle when payloads are large.
        # `most` is bounded, because each opened object keeps in memory the tail that opening it brought.
        return map_ahead(
            _open,
            self._sources,
            threads=OBJECTS_AT_ONCE,
            most=OBJECTS_AT_ONCE + 1,
            name="open-objects",
        )

    def _read(self, found: tuple[Source, OpenedObject]) -> tuple[str, bytes]:
        source, opened = found
        with _translating_errors(source):
            if source.location.is_local:
                # opened again, because files that wait for their turn would use up the descriptors
                with open_store(source.location) as file:
                    payload = file.read_range(0, file.size)
            else:
                payload = self._fetch(source, opened.store or self._listed(source))
        return os.fsdecode(source.name), payload

    def _listed(self, source: Source) -> Store:
        """Open an object with the size and version from the listing, without a request."""
        return open_object(
            source.location,
            size=source.size,
            # sent as If-Match, so an object that was replaced since is an error, not a mix of two states
            version=source.version,
            signatures=self._signatures,
        )

    def _fetch(self, source: Source, store: Store) -> bytes:
        if self._images_only and store.size > LARGE_OBJECT_BYTES:
            head = store.read_range(0, IMAGE_HEAD_BYTES)
            if not recognise_image(head, source.name):
                return head
        # The request that opened the object also fetched its last bytes. So a small object is
        # complete already.
        tail = store.tail
        return store.read_range(0, store.size - len(tail)) + tail


def _open(source: Source) -> tuple[Source, OpenedObject]:
    """Find the size of a source. A remote object stays open, with the bytes that opening fetched."""
    if source.size >= 0:
        return source, OpenedObject(source.size)
    with _translating_errors(source):
        store = open_store(source.location, tail=True)
        if store.is_remote:
            return source, OpenedObject(store.size, store)
        with store:
            return source, OpenedObject(store.size)


@contextmanager
def _translating_errors(source: Source) -> Iterator[None]:
    """Turn errors of stores into SourceErrors that name the source."""
    try:
        yield
    # both are StorageErrors, so they come before it
    except BlobChangedError as exc:
        raise _source_error(source, "changed while it was packed") from exc
    except BlobNotFoundError as exc:
        # a source with a version was there when the prefix was listed
        raise _source_error(source, "is gone" if source.version else "is not there") from exc
    except StorageError as exc:
        raise SourceError(f"nothing was packed: {exc}", paths=(source.location.text,)) from exc


def _source_error(source: Source, reason: str) -> SourceError:
    return SourceError(
        f"nothing was packed: {source.location} {reason}", paths=(source.location.text,)
    )


def list_prefix(location: Location, skipped: Skipped, *, hidden: bool) -> Objects:
    """List the objects below a prefix as if the prefix were a folder; names are relative to it.

    Args:
        location: s3://bucket or s3://bucket/prefix, with or without a "/" at its end; or the URL of a single object, whose
            name is the last part of its key.
        skipped: Counts hidden objects, empty objects that stand for folders, and keys after which no member can be named.
        hidden: Also list objects with a "." at the start of a part of their names.

    Raises:
        SourceError: there is no such object, and none below the prefix, or it can't be listed.
    """
    return list_prefixes([(location, b"")], skipped, hidden=hidden)


def list_prefixes(
    prefixes: Iterable[tuple[Location, bytes]], skipped: Skipped, *, hidden: bool
) -> Objects:
    """List the objects below several prefixes, each with what stands before their names; see list_prefix.

    Raises:
        SourceError: there is no such object, and none below a prefix, or it can't be listed.
        DuplicateNameError: two objects have one name.
    """
    return Objects(
        source
        for location, before in prefixes
        for source in _objects_of(location, before, skipped, hidden=hidden)
    )


def _objects_of(
    location: Location, before: bytes, skipped: Skipped, *, hidden: bool
) -> Iterator[Source]:
    """Yield the objects below a prefix, or the single object at a key."""
    prefix = ""
    listed: list[Listed] = []
    alone = None
    try:
        prefix, listed = _list_below(location)
        alone = None if listed else _find_alone(location)
    except StorageError as exc:
        refused = exc
        if is_denied(exc):
            # To read one object, the right to list is not needed.
            try:
                alone = _find_alone(location)
            except StorageError as other:
                refused = other
        if alone is None:
            raise SourceError(str(refused), paths=(location.text,)) from refused
    if alone is not None:
        name = before or encode_name(location.key.rpartition("/")[2])
        yield Source(name, location, alone.size, alone.version)
        return
    # S3 knows no empty folder: a misspelt prefix is an empty listing, and would be packed as an empty blob
    if not listed:
        raise SourceError(f"{location}: {_nothing_there(location)}", paths=(location.text,))
    for found in listed:
        below = found.key.removeprefix(prefix)
        name = before + b"/" * bool(before) + encode_name(below)
        place = location.at_key(found.key)
        # consoles make such objects for "new folder"; the prefix itself leaves an empty name
        if not below or below.endswith("/"):
            skipped.add("an object that stands for a folder", encode_name(found.key), place.text)
        elif not hidden and is_hidden(below):
            skipped.add("hidden", name, place.text)
        elif not _is_name(encode_name(below)):
            skipped.add(ODD_KEY, encode_name(place.text), place.text)
        else:
            yield Source(name, place, found.size, found.version)


def _list_below(location: Location) -> tuple[str, list[Listed]]:
    """Return a prefix with its "/", and the objects below it."""
    # with a "/" at its end: S3 compares plain text, so the prefix "train" would also list "train-old/1.jpg"
    folder = location.as_folder
    # more than one "/" may be part of the keys, or a slip of the one who typed it
    if location.key.endswith("/") and location.key != folder.key:
        listed = list_objects(location)
        if listed:
            return location.key, listed
    return folder.key, list_objects(folder)


def _find_alone(location: Location) -> Listed | None:
    if not location.key or location.key.endswith("/"):
        return None
    return find_object(location)


def _nothing_there(location: Location) -> str:
    if not location.key:
        return "the bucket is empty"
    if location.key.endswith("/"):
        return "there is no object below this prefix"
    return "there is no such object, and none below it as a prefix"


def _is_name(name: bytes) -> bool:
    try:
        check_name(name)
    except UnsafeNameError:
        return False
    return True
