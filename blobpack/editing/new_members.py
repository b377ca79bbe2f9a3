"""What is appended to a blob, and what becomes of it, wherever the blob lies."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from blobpack._native.gather import recognise_image
from blobpack.errors import DuplicateNameError
from blobpack.packing.files import IMAGE_HEAD_BYTES, FileList, Skipped, filter_files
from blobpack.packing.members import write_members
from blobpack.packing.objects import Objects
from blobpack.packing.options import globs_of
from blobpack.packing.sources import filter_by_name, resolve_source
from blobpack.writing.new_blob import end_archive

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.editing.blob_state import BlobState
    from blobpack.index.index import Index
    from blobpack.model import Duplicates, Packable, Payload, Stale
    from blobpack.packing.options import PackOptions
    from blobpack.packing.sources import ResolvedSource
    from blobpack.stores.sink import Sink


class NothingAdded(Exception):  # noqa: N818 (no error: what was void is put back)
    """All there was to append was skipped."""


@dataclass(frozen=True, slots=True)
class NewMembers:
    """What is to be appended, and how; skipped takes what is left out."""

    source: Packable
    options: PackOptions
    skipped: Skipped
    duplicates: Duplicates
    stale: Stale

    def find(self) -> ResolvedSource:
        """List what there is."""
        return resolve_source(self.source, self.options, self.skipped)

    def check_names(self, found: ResolvedSource, before: BlobState) -> ResolvedSource:
        """Refuse names that the blob has already, if that is wanted."""
        if self.duplicates == "last":
            return found
        return check_new_names(found, before, self.options, self.skipped)

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
        """Write members behind those that are there, and end the archive.

        Returns:
            The new members, and where the archive ends.

        Raises:
            NothingAdded: all of it was skipped.
        """
        options: PackOptions = {
            **self.options,
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
    """What became of a blob."""

    before: BlobState
    added: Index
    index: Index
    blob_bytes: int
    stale_offsets: str | None = None


def check_new_names(
    found: ResolvedSource, before: BlobState, options: PackOptions, skipped: Skipped
) -> ResolvedSource:
    """Refuse names that the blob has already: of files at once, of payloads as they come.

    Raises:
        DuplicateNameError: there is one.
    """
    if isinstance(found, Objects):
        found, _ = filter_by_name(found, options, skipped)
    if not isinstance(found, FileList):
        return _check_each_name(found, before.index)
    chosen = filter_files(found, *globs_of(options), Skipped())
    for path, name in zip(chosen.paths, chosen.names, strict=True):
        if os.fsdecode(name) in before.lookup:
            whole = os.path.join(found.root, path)  # noqa: PTH118 (bytes)
            if options["all_files"] or _is_image(whole, name):
                _raise_duplicate(os.fsdecode(name))
    return found


def _check_each_name(payloads: Iterable[Payload], index: Index) -> Iterator[Payload]:
    for name, payload in payloads:
        if name in index:
            _raise_duplicate(name)
        yield name, payload


def _raise_duplicate(name: str) -> NoReturn:
    raise DuplicateNameError(
        f"the blob has a member {name!r} already; with duplicates='last' the new one would count"
    )


def _is_image(path: bytes, name: bytes) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (bytes)
            return recognise_image(file.read(IMAGE_HEAD_BYTES), name)
    except OSError:
        return False  # packing it tells what is wrong
