"""The table of foreign formats, in which each format is one line."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, NamedTuple

from blobpack.foreign.formats import (
    dali,
    energon,
    energon_database,
    hfutils,
    kerchunk,
    ratarmount,
    supervisely,
    wids,
)
from blobpack.foreign.index_file import IndexFile
from blobpack.stores.location import Location
from blobpack.stores.replace import OutputKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.foreign.source import SourceBlob
    from blobpack.index.index import Index
    from blobpack.model import ForeignFormat
    from blobpack.stores.base import Store


class Format(NamedTuple):
    """A foreign format.

    Attributes:
        program: The program that made the format, for messages.
        matches: Returns whether a file is of this format.
        read: Reads a file for the blob of a store, and returns an index that fits the blob. Raises FormatError if the file
            is damaged, and StaleIndexError if it does not fit the blob.
        encode: Returns the bytes of a file for some blobs, and how many members are in it.
        promise: The kind of file that its suffix promises; see OWN_SUFFIXES in stores/replace.py.
        place: How the program itself names the index of a blob, with {name} for the name of the blob, and {stem} for its
            name without the last suffix. Empty if it has no such name.
        several: Whether one file can be the index of several blobs.
        relative: Whether it may name a blob by a path that is relative to itself.
        compressed: Whether its offsets can be those in a compressed tar.
    """

    program: str
    matches: Callable[[IndexFile], bool]
    read: Callable[[IndexFile, Store], Index]
    encode: Callable[[list[SourceBlob]], tuple[bytes, int]]
    promise: str
    place: str = ""
    several: bool = False
    relative: bool = False
    compressed: bool = False

    def beside(self, blob: Location) -> Location:
        """Return where the program looks for the index of a blob."""
        folder, slash, name = blob.address.rpartition("/")
        beside = self.place.format(name=name, stem=posixpath.splitext(name)[0])
        return Location(f"{folder}{slash}{beside}", blob.kind, blob.access)

    @property
    def kind(self) -> OutputKind:
        """The kind of output, which replaces only files of its kind."""

        def recognise(store: Store) -> bool:
            # Every output is a file or an object, so it has a location.
            if store.location is None:
                return False
            return FORMATS[format_of(IndexFile(store.location, store))] is self

        return OutputKind(f"index of {self.program}", recognise, self.promise)


# A file is compared with the formats in this order. Energon's numbers and pickles come last, because nothing in them
# names their format.
FORMATS: dict[ForeignFormat, Format] = {
    "dali": Format("DALI", dali.matches, dali.read, dali.encode, "index", "{stem}.idx"),
    "energon-sqlite": Format(
        "Energon",
        energon_database.matches,
        energon_database.read,
        energon_database.encode,
        "SQLite database",
        several=True,
    ),
    "ratarmount": Format(
        "ratarmount",
        ratarmount.matches,
        ratarmount.read,
        ratarmount.encode,
        "SQLite database",
        "{name}.index.sqlite",
        compressed=True,
    ),
    "wids": Format(
        "wids", wids.matches, wids.read, wids.encode, "JSON", several=True, relative=True
    ),
    "hfutils": Format(
        "hfutils", hfutils.matches, hfutils.read, hfutils.encode, "JSON", "{stem}.json"
    ),
    "kerchunk": Format(
        "kerchunk",
        kerchunk.matches,
        kerchunk.read,
        kerchunk.encode,
        "JSON",
        "{stem}.refs.json",
        several=True,
    ),
    "energon": Format(
        "Energon", energon.matches, energon.read, energon.encode, "index", "{stem}.tar.idx"
    ),
    "supervisely": Format(
        "Supervisely",
        supervisely.matches,
        supervisely.read,
        supervisely.encode,
        "offsets file",
        "{stem}_offsets.pkl",
        compressed=True,
    ),
}


def format_of(file: IndexFile) -> ForeignFormat:
    """Return the format of a file, by its content.

    Raises:
        FormatError: it begins as JSON or SQLite, and can't be read; or it is of none of the formats.
    """
    for name, format in FORMATS.items():
        if format.matches(file):
            return name
    programs = dict.fromkeys(format.program for format in FORMATS.values())
    raise file.fault(f"this is no index of blobpack, nor of {', '.join(programs)}", 0)


def read_foreign(file: IndexFile, store: Store) -> Index:
    """Read a foreign index for the blob of a store.

    Raises:
        StaleIndexError: it does not fit the blob.
        FormatError: it is damaged, or of no format that blobpack reads; or the blob is damaged.
    """
    format = format_of(file)
    file.format = "" if format == "supervisely" else format
    return FORMATS[format].read(file, store)
