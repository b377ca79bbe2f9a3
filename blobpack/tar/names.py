"""Compare names as files: two names of one normal form are extracted to one file.

So wherever two members must not have one name, names are compared in this form: "a/b.jpg", "./a/b.jpg" and "a//b.jpg"
are one. A lookup by name, such as `blob.read(name)`, compares names as they are in the tar.
"""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import TYPE_CHECKING

from blobpack._native.lookup import NameLookup
from blobpack._native.packed import normal_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobpack.columns import Columns


def normal_lookup(columns: Columns) -> NameLookup:
    """Make a lookup of the normal forms of names. Rows whose names have one normal form are duplicates."""
    return NameLookup(*normal_names(columns.names, columns.name_bounds))


def first_clash(names: Sequence[bytes]) -> tuple[int, int] | None:
    """Return the places of two names that are one file; None if all are different files."""
    bounds = array("q", accumulate(map(len, names), initial=0))
    return NameLookup(*normal_names(b"".join(names), bounds)).first_duplicate()
