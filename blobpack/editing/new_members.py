"""The members that an append adds, and the result of the append: for blobs on disk and in S3."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack._native.lookup import NameLookup
from blobpack._native.packed import normal_name, normal_names
from blobpack.errors import DuplicateNameError
from blobpack.packing.files import FileList, Skipped, filter_files, is_image_file
from blobpack.packing.members import write_members
from blobpack.packing.objects import Objects
from blobpack.packing.options import globs_of
from blobpack.packing.sources import filter_by_name, resolve_source
from blobpack.wording import setting
from blobpack.writing.new_blob import end_archive

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.editing.blob_state import BlobState
    from blobpack.index.index import Index
    from blobpack.model import Duplicates, IndexPlace, Packable, Payload, Stale
    from blobpack.packing.options import PackOptions
    from blobpack.packing.sources import ResolvedSource
    from blobpack.stores.location import Location
    from blobpack.stores.sink import Sink


class NothingAdded(Exception):  # noqa: N818 (no error: the blob is put back as it was)
    """Every file was skipped, so there is nothing to append."""


@dataclass(frozen=True, slots=True)
class NewMembers:
    """The members to append.

    Attributes:
        source: The source, as the caller gave it.
        options: Complete options.
        skipped: Counts what is skipped.
        duplicates: What to do with names that the blob already has.
        stale: What to do with an index that does not fit the blob.
    """

    source: Packable
    options: PackOptions
    skipped: Skipped
    duplicates: Duplicates
    stale: Stale

    def find(self) -> ResolvedSource:
        """List the files, objects or payloads of the source."""
        return resolve_source(self.source, self.options, self.skipped)

    def check_names(
        self, found: ResolvedSource, index: Index, lookup: Index, holder: Location
    ) -> ResolvedSource:
        """Check that the new names are not there yet, if duplicates are to be refused.

        Args:
            found: The source.
            index: The members that are there.
            lookup: An index of the same members, to look up names before anything is changed.
            holder: The blob or collection that has these members, for messages.

        Raises:
            DuplicateNameError: there is a member of that name already.
        """
        if self.duplicates == "last":
            return found
        return check_new_names(found, index, lookup, self, holder)

    def write(
        self,
        found: ResolvedSource,
        before: BlobState,
        tail: Sink,
        url: str,
        *,
        replaced: os.stat_result | None = None,
        held: bytearray | None = None,
    ) -> tuple[Index, int]:
        """Write the new members behind the old ones, and end the archive.

        Args:
            found: The source, with its names checked.
            before: The blob before the append.
            tail: Receives the new members.
            url: The blob, for messages.
            replaced: The blob's file, which is skipped if it is in the source.
            held: Receives the first bytes instead of the sink; see write_members.

        Returns:
            The new members, and the position where the archive ends.

        Raises:
            NothingAdded: every file was skipped.
        """
        options: PackOptions = {
            **self.options,
            # an index has a fact for all members or for none (docs/format.md): if the old members have no facts, those
            # of the new ones can't be recorded
            "facts": self.options["facts"] and before.has_facts,
        }
        added, position = write_members(
            found,
            tail,
            self.skipped,
            options,
            target=url,
            replaced=replaced,
            start=before.end,
            held=held,
        )
        if not added:
            raise NothingAdded
        return added, end_archive(tail, added, position)


@dataclass(frozen=True, slots=True)
class AppendResult:
    """A blob or collection after an append.

    Attributes:
        place: Where the index is.
        added: The new members.
        index: All members.
        blob_bytes: Bytes of the blob now; of a collection, bytes of all its blobs.
        stale_offsets: Path of an offsets file that lacks the new members, or None.
        shard: Path or URL of the blob that was added to a collection, or None.
        blobs: Number of blobs of a collection now; None for a single blob.
    """

    place: IndexPlace
    added: Index
    index: Index
    blob_bytes: int
    stale_offsets: str | None = None
    shard: str | None = None
    blobs: int | None = None


def check_new_names(
    found: ResolvedSource, index: Index, lookup: Index, new: NewMembers, holder: Location
) -> ResolvedSource:
    """Check that the new names are not there yet: files are checked now, payloads as they come; see NewMembers.

    Raises:
        DuplicateNameError: there is a member of that name already.
    """
    options = new.options
    # objects become payloads below; their names are filtered before that, so that the others are not fetched
    if isinstance(found, Objects):
        found, _ = filter_by_name(found, options, new.skipped)
    if not isinstance(found, FileList):
        # the index in memory, and not the one in the blob: that is overwritten while these payloads come
        return _check_each_name(found, _TakenNames(index, index, holder))
    taken = _TakenNames(index, lookup, holder)
    # a Skipped of its own: write_members filters the same files again, and they would be counted twice
    chosen = filter_files(found, *globs_of(options), Skipped())
    for path, name in zip(chosen.paths, chosen.names, strict=True):
        taken_by = taken.find(os.fsdecode(name))
        if taken_by is not None:
            whole = os.path.join(found.root, path)  # noqa: PTH118 (bytes)
            # A file that is not an image will be skipped, so it is no duplicate. Only files with names that the blob
            # already has are read for this.
            if options["all_files"] or is_image_file(whole, name):
                raise taken.error(os.fsdecode(name), taken_by)
    return found


def _check_each_name(payloads: Iterable[Payload], taken: _TakenNames) -> Iterator[Payload]:
    for name, payload in payloads:
        taken_by = taken.find(name)
        if taken_by is not None:
            raise taken.error(name, taken_by)
        yield name, payload


class _TakenNames:
    """The names of a blob's or collection's members, found by their normal form."""

    def __init__(self, index: Index, lookup: Index, holder: Location) -> None:
        """Use the members of an index, and another Index of the same members for lookups."""
        self._index, self._lookup, self._holder = index, lookup, holder
        # Mostly all names are in normal form. Then the index finds them: a table of its own would take longer to make
        # than a small append. Part by part, because a collection may have more members than memory holds.
        stored = index._stored
        is_known = stored is not None and stored.footer.normal_names
        is_normal = is_known or all(
            normal_names(part.names, part.name_bounds)[0] is part.names for part in index._parts()
        )
        self._table = None if is_normal else _lookup_of(index)

    def find(self, name: str) -> str | None:
        """Return the name of the member that is the same file as `name`; None if there is none."""
        normal = normal_name(name)
        if self._table is None:
            return normal if normal in self._lookup else None
        row = self._table.find(normal)
        return self._index._name_at(row) if row >= 0 else None

    def error(self, name: str, taken_by: str) -> DuplicateNameError:
        """Return the error for a new name, and the name that is there already."""
        there = f"{self._holder}: there is a member {taken_by!r} already"
        if name != taken_by:
            return DuplicateNameError(f"{there}, and {name!r} would be extracted to the same file")
        return DuplicateNameError(
            f"{there}; with {setting('duplicates', 'last')}, this name would mean the new one"
        )


def _lookup_of(index: Index) -> NameLookup:
    return NameLookup(*normal_names(index._columns.names, index._columns.name_bounds))
