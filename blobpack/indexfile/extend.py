"""Add members behind those of an index that is there, without reading its names.

Strategy: whole blocks are copied as bytes. Only the last block, unless it is full, is read, and written again with the
first new members. The pages of the lookup are copied, too, some megabytes at a time, and the new names are put into free
slots of theirs. Checksums of what is copied stay as they are, so damage is found when the new index is read.

A page has room for 504 names, and a new lookup puts 400 names into a page on average. So sooner or later some page is full,
and then all names have to be read to make a larger lookup; see LookupFullError. A larger lookup has pages of 320 names on
average, so it has room for about a third more names.
"""

from __future__ import annotations

import os
from array import array
from typing import TYPE_CHECKING

from blobpack.errors import ChecksumError, FormatError
from blobpack.indexfile.footer import BLOCK_ROWS, INDEX_PAGE_BYTES, REGION_HEADER
from blobpack.indexfile.mapped import LocalIndex
from blobpack.indexfile.pages import decode_directory_page, decode_guide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blobpack._native.block_encoder import BlockEncoder
    from blobpack._native.name_hashes import NameHashes
    from blobpack.columns import Columns
    from blobpack.indexfile.open import StoredIndex
    from blobpack.stores.base import Store
    from blobpack.stores.sink import LocalSink

# in a lookup that was made larger
PAGE_NAMES_WITH_ROOM = 320
COPY_BYTES = 8 << 20


class Base:
    """An index that members are added to; it is mapped from a local file.

    Attributes:
        footer: Its footer.
        rows: Number of its members.
        whole_rows: Number of its members in whole blocks.
    """

    def __init__(self, stored: LocalIndex, store: Store) -> None:
        """Use an index.

        Args:
            stored: The index.
            store: Its file, which begins with the index.
        """
        self.footer, self.rows = stored.footer, len(stored)
        self._stored, self._store = stored, store
        self._whole_blocks = self.rows // BLOCK_ROWS
        self.whole_rows = self._whole_blocks * BLOCK_ROWS

    @classmethod
    def of(cls, stored: StoredIndex, *, compares_files: bool) -> Base | None:
        """Return a base, or None if all of the index has to be read to add members.

        Args:
            stored: The index.
            compares_files: The normal forms of new names are compared with those of all names.
        """
        footer = stored.footer
        # An index that was overwritten or closed has no native index any more.
        if not isinstance(stored, LocalIndex) or stored.native is None:
            return None
        if not footer.lookup_pages or footer.lookup_seed:
            return None
        if compares_files and not footer.normal_names:
            return None
        return cls(stored, stored.store)

    def copy_blocks(self, sink: LocalSink, encoder: BlockEncoder) -> int:
        """Copy all whole blocks to a file, and return their bytes."""
        positions = self._positions()
        start, end = REGION_HEADER.size, positions[self._whole_blocks]
        _copy(self._store, start, end, sink)
        blocks = array("q", (at - start for at in positions[: self._whole_blocks]))
        encoder.continue_from(blocks, end - start, *self._guide())
        return end - start

    def last_rows(self) -> Columns:
        """Return the members behind the whole blocks, less than a block."""
        return self._stored.rows(self.whole_rows, self.rows)

    def extended_lookup(
        self, names: NameHashes, repeated: Callable[[int, int], object] | None
    ) -> Iterator[bytearray]:
        """Yield the pages of the lookup, with the new names in them, many at a time; see NameHashes.extend_lookup.

        Raises:
            ChecksumError: a page is damaged.
            LookupFullError: a page has no room.
        """
        try:
            yield from names.extend_lookup(
                self.footer.lookup_pages, self.rows, self._read_pages, self._name_at, repeated
            )
        except ChecksumError as exc:
            # the error that `names` raises does not name the file
            if exc.offset is not None:
                raise
            raise ChecksumError(
                f"{self._store.url}: the index is damaged: {exc}", offset=self.footer.lookup
            ) from exc

    def find(self, name: str) -> int:
        """Return the last row with this name, or -1."""
        return self._stored.find(name)

    def name_at(self, row: int) -> str:
        """Return the name in a row."""
        return self._stored.name_at(row)

    def _name_at(self, row: int) -> bytes:
        return self._stored.name_at(row).encode("utf-8", "surrogateescape")

    def _read_pages(self, first: int, last: int) -> bytes:
        start = self.footer.lookup
        return self._store.read_range(
            start + first * INDEX_PAGE_BYTES, start + last * INDEX_PAGE_BYTES
        )

    def _positions(self) -> array[int]:
        """Return where each block starts, and where the last one ends, from the start of the file."""
        start = self.footer.directory
        packed = memoryview(self._store.read_range(start, start + self.footer.directory_bytes))
        positions = array("q")
        for page in range(len(packed) // INDEX_PAGE_BYTES):
            at = page * INDEX_PAGE_BYTES
            one = bytes(packed[at : at + INDEX_PAGE_BYTES])
            some = decode_directory_page(one, page, self._store.url, start + at)
            if max(some) > self.footer.region_bytes:
                raise FormatError(
                    f"{self._store.url}: the index is damaged: its directory places a block at byte {max(some)}, behind "
                    "its end",
                    offset=start + at,
                )
            positions.extend(some)
        return positions

    def _guide(self) -> tuple[list[bytes] | None, bytes | None]:
        """Return the first name of each whole block, and the last name; None if there is no guide."""
        if not self._whole_blocks:
            return [], None
        start, size = self.footer.guide, self.footer.guide_bytes
        if not size:
            return None, None
        packed = self._store.read_range(start, start + size)
        names = decode_guide(packed, self.footer.block_count, self._store.url, start)
        return names[: self._whole_blocks], self._name_at(self.whole_rows - 1)


def _copy(store: Store, start: int, end: int, sink: LocalSink) -> None:
    """Copy bytes of a store to a file, by the system if it can: some file systems then share the bytes."""
    sink.flush()
    fd, at = store.fd, sink.tell()
    while fd is not None and start < end:
        try:
            count = os.copy_file_range(fd, sink.fileno(), end - start, start, at)
        # The system can't copy between these two files, say. If the disk is full, the write below raises an error that
        # names the file.
        except OSError:
            break
        # 0: the file was cut, or its file system can't copy. On some file systems, Linux 5.3 to 5.18 reported success without
        # copying (copy_file_range(2)). The reads below find out which it is.
        if not count:
            break
        start, at = start + count, at + count
    sink.seek(at)
    for first in range(start, end, COPY_BYTES):
        sink.write(store.read_range(first, min(first + COPY_BYTES, end)))
