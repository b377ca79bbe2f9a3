"""What is appended to a blob, and what becomes of it, wherever the blob lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from blobpack.editing.duplicates import without_taken
from blobpack.packing.members import end_archive, write_members
from blobpack.packing.sources import find_sources

if TYPE_CHECKING:
    import os

    from blobpack.editing.blob_state import Before
    from blobpack.index.index import Index
    from blobpack.indexfile.identity import Witness
    from blobpack.model import Duplicates, Packable, Stale
    from blobpack.packing.choices import Choices
    from blobpack.packing.files import Skipped
    from blobpack.packing.sources import Found


class NothingAdded(Exception):  # noqa: N818 (no error: what was void is put back)
    """All there was to append was skipped."""


@dataclass(frozen=True, slots=True)
class New:
    """What is to be appended, and how; skipped takes what is left out."""

    source: Packable
    choices: Choices
    skipped: Skipped
    duplicates: Duplicates
    stale: Stale

    def find(self) -> Found:
        """List what there is."""
        return find_sources(self.source, self.choices, self.skipped)

    def checked(self, found: Found, before: Before) -> Found:
        """Refuse names that the blob has already, if that is wanted."""
        if self.duplicates == "last":
            return found
        return without_taken(found, before, self.choices, self.skipped)

    def write(
        self,
        found: Found,
        before: Before,
        tail: BinaryIO | Witness,
        url: str,
        *,
        replaced: os.stat_result | None = None,
        held: bytearray | None = None,
    ) -> tuple[Index, int]:
        """Write members behind those that are there, and end the archive.

        Returns:
            The new members, and where the archive ends.

        Raises:
            NothingAdded: all of it was skipped.
        """
        choices = replace(self.choices, facts=self.choices.facts and before.has_facts)
        added, position = write_members(
            found,
            tail,
            self.skipped,
            choices,
            target=url,
            replaced=replaced,
            start=before.end,
            held=held,
        )
        if not added:
            raise NothingAdded
        return added, end_archive(tail, added, position)


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a blob."""

    before: Before
    added: Index
    index: Index
    blob_bytes: int
    stale_offsets: str | None = None
