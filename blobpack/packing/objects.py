"""Objects in S3, or a mix of them and files, as payloads to pack: many fetched at once, in the order of their names."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from blobpack._native.gather import recognise_image
from blobpack.errors import (
    BlobChangedError,
    BlobNotFoundError,
    DuplicateNameError,
    SourceError,
    StorageError,
)
from blobpack.packing.files import IMAGE_HEAD_BYTES, Skipped, match_filters
from blobpack.stores.location import Location
from blobpack.stores.open import open_store
from blobpack.stores.s3.signing import Signatures
from blobpack.tar.header import encode_name
from blobpack.threads import map_ahead

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from blobpack.stores.base import Store
    from blobpack.stores.s3.store import S3Store

OBJECTS_AT_ONCE = 64  # at 25 ms each, 2,500 objects a second
PAYLOADS_AHEAD_BYTES = 64 << 20  # of payloads that wait for their turn, or one larger
LARGE_OBJECT_BYTES = 16 << 20


class Source(NamedTuple):
    """One object or file.

    Attributes:
        name: Its member's.
        location: Where it lies.
        size: Its bytes; -1 when that is not known.
        version: Its ETag when it was listed; empty when that is not known.
    """

    name: bytes
    location: Location
    size: int = -1
    version: str = ""


class OpenedObject(NamedTuple):
    """What was not listed, once that is known: its size, and where it is read if it is far away."""

    size: int
    store: Store | None = None


class Objects:
    """Objects to pack: (name, payload) pairs, in byte order of the names."""

    def __init__(self, sources: Iterable[Source], *, images_only: bool = False) -> None:
        """Put them in order.

        Args:
            sources: What to fetch.
            images_only: Of something large that is no image, the first bytes are enough.

        Raises:
            DuplicateNameError: two would have one name.
        """
        self._sources = sorted(sources, key=lambda source: source.name)
        self._images_only = images_only
        self._signatures = Signatures()
        for one, other in pairwise(self._sources):
            if one.name == other.name:
                raise DuplicateNameError(
                    f"{one.location.text!r} and {other.location.text!r} would both be member {os.fsdecode(one.name)!r}"
                )

    def __len__(self) -> int:
        return len(self._sources)

    def only(
        self, globs: Sequence[str], exclude: Sequence[str], skipped: Skipped, *, images_only: bool
    ) -> Objects:
        """Keep those whose names pass the globs: the others need not be fetched."""
        sources = self._sources
        if globs or exclude:
            chosen = match_filters([source.name for source in sources], globs, exclude)
            for source, kept in zip(sources, chosen, strict=True):
                if not kept:
                    skipped.add("filtered out", source.name)
            sources = [source for source, kept in zip(sources, chosen, strict=True) if kept]
        return Objects(sources, images_only=images_only)

    def without(self, blob: Location, skipped: Skipped) -> Objects:
        """Leave out the blob that is packed: the one that is there, to be replaced."""
        for source in self._sources:
            if source.location == blob:
                skipped.add("the blob itself", source.name)
        return Objects(source for source in self._sources if source.location != blob)

    def total_bytes(self) -> int | None:
        """Add up what their members take at most, with headers and index; None if that is not known."""
        if any(source.size < 0 for source in self._sources):
            return None
        return sum(source.size + 3072 + 2 * len(source.name) for source in self._sources)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Fetch them; so many are under way or wait that they fit the window.

        Raises:
            SourceError: one can't be read, or changed since it was listed.
        """
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
        """Learn the sizes, in order; what was not listed is opened for that, as many ahead as there are threads.

        These are not the threads that read: the larger the payloads, the fewer threads read, and each opened
        object keeps memory.
        """
        if all(source.size >= 0 for source in self._sources):
            return ((source, OpenedObject(source.size)) for source in self._sources)
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
                with open_store(source.location) as file:
                    payload = file.read_range(0, file.size)
            else:
                payload = self._fetch(source, opened.store or self._listed(source))
        return os.fsdecode(source.name), payload

    def _listed(self, source: Source) -> S3Store:
        from blobpack.stores.s3.store import S3Store

        return S3Store(
            source.location,
            size=source.size,
            version=source.version,
            signatures=self._signatures,
        )

    def _fetch(self, source: Source, store: Store) -> bytes:
        if self._images_only and store.size > LARGE_OBJECT_BYTES:
            head = store.read_range(0, IMAGE_HEAD_BYTES)
            if not recognise_image(head, source.name):
                return head
        tail = store.tail
        return store.read_range(0, store.size - len(tail)) + tail


def _open(source: Source) -> tuple[Source, OpenedObject]:
    """Learn the size of what was not listed, and open it if it is far away."""
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
    """Say of errors in reading one that nothing was packed."""
    try:
        yield
    except BlobChangedError as exc:
        raise _source_error(source, "changed while it was packed") from exc
    except BlobNotFoundError as exc:
        raise _source_error(source, "is gone" if source.version else "is not there") from exc
    except StorageError as exc:
        raise SourceError(f"nothing was packed: {exc}", paths=(source.location.text,)) from exc


def _source_error(source: Source, reason: str) -> SourceError:
    return SourceError(
        f"nothing was packed: {source.location} {reason}", paths=(source.location.text,)
    )


def list_prefix(location: Location, skipped: Skipped, *, hidden: bool) -> Objects:
    """List the objects below a prefix as a folder's files; names are relative to it.

    Args:
        location: s3://bucket or s3://bucket/prefix, with or without a "/" at its end.
        skipped: Takes what is left out: what is hidden, and the empty objects that stand for folders.
        hidden: Also take what has a "." before a part of its name.

    Raises:
        SourceError: there is nothing, or it can't be listed.
    """
    from blobpack.stores.s3.listing import list_objects

    bucket, prefix = location.bucket, location.as_folder.key
    try:
        listed = list_objects(bucket, prefix)
    except StorageError as exc:
        raise SourceError(str(exc), paths=(location.text,)) from exc
    if not listed:
        raise SourceError(
            f"{location}: there is nothing below s3://{bucket}/{prefix}", paths=(location.text,)
        )
    sources = []
    for found in listed:
        name = encode_name(found.key.removeprefix(prefix))
        if not name or name.endswith(b"/"):
            skipped.add("an object that stands for a folder", encode_name(found.key))
        elif not hidden and any(part.startswith(b".") for part in name.split(b"/")):
            skipped.add("hidden", name)
        else:
            sources.append(
                Source(name, Location.in_s3(bucket, found.key), found.size, found.version)
            )
    return Objects(sources)
