"""Copy members of one blob to the end of another, with their headers.

Strategy: a member together with its headers is a group. A group is copied unchanged, and groups that follow each other
in the source are copied as one range. A member gets new headers only if its headers in the source don't say its name:
a hard link, for example, or a name from a pax global header. Members are handled in parts of about 64 MiB: while one
part is copied, a thread finds the headers of the next part. A new blob in S3 gets each part through a temporary file.

Small members of a local file that lie one behind the other need not be read twice: native code looks at their headers while
it copies them. If it finds anything else between them, the part is copied again, in the way above.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from blobpack._native.copying import copy_pieces
from blobpack._native.splice import find_groups
from blobpack.look_ahead import map_ahead
from blobpack.tar.splicing.dense import copy_dense, is_dense
from blobpack.tar.splicing.extents import zeros
from blobpack.tar.splicing.plan import copy_plan, new_headers, parts_of_rows
from blobpack.tar.splicing.source import (
    RemoteSource,
    check_copied,
    copy_range,
    is_long,
    open_source,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blobpack.columns import Columns
    from blobpack.progress import CountCallback
    from blobpack.stores.base import Store
    from blobpack.stores.sink import Parts
    from blobpack.tar.splicing.extents import Extents, Offsets
    from blobpack.tar.splicing.source import LocalSource

    Int64s = NDArray[np.int64]

# Ranges of at least this size are copied by copy_file_range, which shares blocks where the file system can. For shorter
# ranges its fixed cost counts: on ext4 (Linux 6.18, warm) it took 2.8 times as long as the native copy for ranges of
# 4.6 KB, 1.3 times for 256 KiB, 1.06 times for 8 MiB.
KERNEL_COPY_BYTES_MIN = 256 << 10


def splice(
    store: Store,
    extents: Extents,
    members: Columns,
    archive: Parts,
    offsets: Offsets,
    progress: CountCallback | None = None,
) -> None:
    """Copy members to the end of a new blob, in the order given.

    Args:
        store: The source.
        extents: Where the members of the source lie.
        members: The members to copy.
        archive: The archive of the new blob.
        offsets: The members that are in the new blob already; the copied ones are added.
        progress: progress(members, bytes), called after each part.

    Raises:
        BlobChangedError: the index does not belong to the source, or the source became shorter.
        StorageError: the source can't be read, or the new blob can't be written.
    """
    with open_source(store) as source:
        _Splice(source, store, extents, members, archive, offsets, progress).run()


class _Splice:
    """The copying of members from one source."""

    def __init__(
        self,
        source: LocalSource | RemoteSource,
        store: Store,
        extents: Extents,
        members: Columns,
        archive: Parts,
        offsets: Offsets,
        progress: CountCallback | None,
    ) -> None:
        self.source, self.store, self.members = source, store, members
        self.archive, self.offsets, self.progress = archive, offsets, progress
        self.before, self.padded_end = extents.of(members)

    def run(self) -> None:
        """Copy all members, part by part."""
        parts = list(parts_of_rows(self.before, self.padded_end))
        # The temporary file of a remote source holds one part. Finding the next part ahead would drop bytes that are
        # still to be copied.
        if isinstance(self.source, RemoteSource):
            for first, last in parts:
                self._copy(first, last, self._find(first, last))
            return
        with closing(map_ahead(self._find_ahead, parts, threads=1, most=2, name="splice")) as found:
            for (first, last), groups in zip(parts, found, strict=True):
                if groups is None and self._copy_as_it_is(first, last):
                    continue
                self._copy(first, last, self._find(first, last) if groups is None else groups)

    def _find_ahead(self, part: tuple[int, int]) -> Int64s | None:
        """Find groups; None for a part that is perhaps copied without."""
        return None if self._is_dense(*part) else self._find(*part)

    def _is_dense(self, first: int, last: int) -> bool:
        return is_dense(self.before[first:last], self.padded_end[first:last])

    def _copy_as_it_is(self, first: int, last: int) -> bool:
        """Copy a dense part if it has these members and nothing else; return whether it has."""
        import numpy as np

        part = self.members.slice(first, last)
        part_start, pos = int(self.before[first]), self.offsets.pos
        to_fd = self.archive.fd
        if not copy_dense(self.source.fd, self.store, part_start, part, to_fd, pos):
            return False
        start = np.asarray(part.offset_start)
        self.offsets.note(start - part_start + pos, np.asarray(part.offset_end) - start)
        self._finish(pos, pos + int(self.padded_end[last - 1]) - part_start)
        return True

    def _is_long(self, first: int, last: int) -> bool:
        """Return whether a part is one member that is too long to be fetched whole."""
        start = self.members.offset_start[first]
        return last - first == 1 and is_long(int(self.padded_end[first]) - start)

    def _find(self, first: int, last: int) -> Int64s:
        """Find where the groups of the rows first:last start; -1 for a member that needs new headers."""
        import numpy as np

        part = self.members.slice(first, last)
        long = self._is_long(first, last)
        # only the headers of a long member are fetched now: its payload is streamed into the new blob later
        brought_end = np.asarray(part.offset_start) if long else self.padded_end[first:last]
        self.source.bring(self.before[first:last], brought_end)
        return np.asarray(
            find_groups(
                self.source.fd,
                self.store.size,
                self.store.url,
                self.before[first:last].data,
                part.offset_start,
                part.offset_end,
                part.names,
                part.name_bounds,
            )
        )

    def _copy(self, first: int, last: int, groups: Int64s) -> None:
        """Copy the rows first:last, and note their offsets in the new blob.

        Args:
            first: First row of the part.
            last: End of the part.
            groups: (last - first,) where the group of each member starts; -1 for new headers.
        """
        import numpy as np

        part = self.members.slice(first, last)
        start, padded_end = np.asarray(part.offset_start), self.padded_end[first:last]
        made = np.flatnonzero(groups < 0)
        headers, header_bounds = new_headers(part.take(made)) if len(made) else (b"", zeros(1))
        # with new headers, only the payload is copied from the source
        begin = groups.copy()
        begin[made] = start[made]
        header_bytes = start - begin
        header_bytes[made] = np.diff(header_bounds)
        group_bytes = header_bytes + padded_end - start
        at = self.offsets.pos + np.cumsum(group_bytes) - group_bytes
        self.offsets.note(at + header_bytes, np.asarray(part.offset_end) - start)
        pieces, sizes = copy_plan(begin, padded_end - begin, made, header_bounds)
        part_start = self.offsets.pos
        self._copy_pieces(headers, pieces, sizes, long=self._is_long(first, last))
        self.offsets.new_headers += len(made)
        self._finish(part_start, self.offsets.pos)

    def _finish(self, start: int, end: int) -> None:
        """Pass a part on to the sink that is written, with its place in the new blob."""
        self.offsets.pos = end
        self.archive.finish(start, end)
        if self.progress:
            self.progress(self.offsets.count, end)

    def _copy_pieces(
        self, headers: bytes | memoryview, pieces: Int64s, sizes: Int64s, *, long: bool
    ) -> None:
        """Write pieces one behind the other: long ones by copy_file_range, those between them by native code.

        Args:
            headers: The new headers.
            pieces: (n,) where each piece starts in the source; ~start for a piece of headers.
            sizes: (n,) bytes of each piece.
            long: The part is one long member, which is not in a temporary file.
        """
        import numpy as np

        copy = self.source.copy if long else self._copy_brought
        large = np.flatnonzero((sizes >= KERNEL_COPY_BYTES_MIN) & (pieces >= 0)).tolist()
        first = 0
        for i in [*large, len(pieces)]:
            short = slice(first, i)
            first = i + 1
            if short.stop > short.start:
                copied = copy_pieces(
                    self.source.fd,
                    self.archive.fd,
                    self.offsets.pos,
                    headers,
                    pieces[short].data,
                    sizes[short].data,
                )
                check_copied(copied, self.store.url)
                self.offsets.pos += int(sizes[short].sum())
            if i < len(pieces):
                size = int(sizes[i])
                copy(int(pieces[i]), size, self.archive.fd, self.offsets.pos)
                self.offsets.pos += size

    def _copy_brought(self, pos: int, size: int, to_fd: int, to: int) -> None:
        copy_range(self.source.fd, pos, size, to_fd, to, self.store.url)
