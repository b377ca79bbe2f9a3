"""Compare names of members: which of them are one file, and which belong to one sample.

Two names of one normal form are extracted to one file.

So wherever two members must not have one name, names are compared in this form: "a/b.jpg", "./a/b.jpg" and "a//b.jpg"
are one. A lookup by name, such as `blob.read(name)`, compares names as they are in the tar.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate
from typing import TYPE_CHECKING

from blobpack._native.lookup import NameLookup
from blobpack._native.packed import normal_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobpack.columns import Columns
    from blobpack.index.index import Index


# The part after the last "/" of a name that is not of an AppleDouble file. macOS's tar puts these files before members, for
# what other file systems can't hold. By their names they look like images.
NOT_APPLE_DOUBLE = re.compile(r"(?:\A|/)(?!\._)[^/]*\Z")

STEM_AND_FIELD = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
OF_A_TOOL = re.compile(r"__[^/]*__", re.DOTALL)


def split_sample(name: str) -> tuple[str, str]:
    """Return the stem and the field of a member's name, as WebDataset splits them; two empty texts if it belongs to no sample.

    The stem ends at the first dot of the file name, and the field is what follows it, in lower case: `a/1.seg.png` is the
    field `seg.png` of the sample `a/1`. Members without a stem or without a field belong to no sample, nor do those named
    `__…__`.
    """
    found = STEM_AND_FIELD.fullmatch(name)
    if found is None or OF_A_TOOL.fullmatch(name):
        return "", ""
    return found[1], found[2].lower()


def is_hidden(name: str) -> bool:
    """Return whether a file is hidden, or lies in a hidden folder: a part of its name begins with a dot.

    `pack` leaves such files out. Of another tar, whoever made it has chosen the members, so only AppleDouble files are
    left out.
    """
    return any(part.startswith(".") for part in name.split("/"))


def is_apple_double(name: str) -> bool:
    """Return whether a member is an AppleDouble file of macOS, by its name."""
    return NOT_APPLE_DOUBLE.search(name) is None


def without_apple_double(index: Index) -> Index:
    """Return the members that are not AppleDouble files."""
    # Few tars have any. One search through all names takes a hundredth of the time of one for each name.
    if not any(b"._" in bytes(part.packed_names()) for part in index._parts()):
        return index
    return index.select(regex=NOT_APPLE_DOUBLE)


def normal_lookup(columns: Columns) -> NameLookup:
    """Make a lookup of the normal forms of names. Rows whose names have one normal form are duplicates."""
    return NameLookup(*normal_names(columns.names, columns.name_bounds))


def first_clash(names: Sequence[bytes]) -> tuple[int, int] | None:
    """Return the places of two names that are one file; None if all are different files."""
    bounds = array("q", accumulate(map(len, names), initial=0))
    return NameLookup(*normal_names(b"".join(names), bounds)).first_duplicate()
