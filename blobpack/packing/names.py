"""Make the names of members, as tar does.

Strategy: names of a folder that is packed alone are relative to it, and nothing in this module is called. If several
paths are given, names begin with the paths as they were given. `strip` and `prefix` change whole names, in a pass of
their own that is left out if neither is given.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, AnyStr, NamedTuple

from blobpack.errors import UnsafeNameError
from blobpack.model import check_text
from blobpack.quoting import quoted
from blobpack.tar.header import check_name, encode_name
from blobpack.wording import setting

if TYPE_CHECKING:
    from blobpack.stores.location import Location


class GivenNames:
    """Makes the names of given files, and the first parts of the names of all files below given folders."""

    def __init__(self, directory: Location | None) -> None:
        """Set the folder or prefix that relative paths start at; None for the current folder."""
        if directory is None:
            self._above = b""
        elif directory.is_local:
            self._above = os.path.join(os.path.abspath(os.fsencode(directory)), b"")  # noqa: PTH100, PTH118 (bytes)
        else:
            self._above = encode_name(directory.as_folder.whole)

    def of_path(self, path: bytes) -> bytes:
        """Return the name of a local path; empty for the current folder."""
        name = os.path.normpath(path)
        if name.startswith(b"/"):
            return self._of_absolute(name)
        # tar, too, drops "..": a name that begins with it leads out of the folder where it is extracted
        while name.startswith(b"../"):
            name = name[3:]
        return b"" if name in (b".", b"..") else name

    def of_prefix(self, location: Location) -> bytes:
        """Return the name of a bucket, a prefix or an object in S3."""
        return self._of_absolute(encode_name(location.address.rstrip("/")))

    def _of_absolute(self, path: bytes) -> bytes:
        if self._above and path.startswith(self._above):
            return path[len(self._above) :]
        return path[path.rindex(b"/") + 1 :]


class NameChange(NamedTuple):
    """A change of all names: `strip` and `prefix` of PackOptions.

    Attributes:
        strip: Number of folders to remove at the front.
        prefix: What stands in front of the rest.
    """

    strip: int
    prefix: bytes

    @classmethod
    def of(cls, strip: int, prefix: str) -> NameChange | None:
        """Return the change that two options ask for; None if names stay."""
        return cls(strip, encode_name(prefix)) if strip or prefix else None

    def apply(self, name: bytes, *path: AnyStr) -> bytes:
        """Return the changed name.

        Args:
            name: The name.
            path: The parts of the file's path, for the message; none if it has no path.

        Raises:
            UnsafeNameError: the name has no more parts than are removed.
        """
        parts = name.split(b"/", self.strip)
        if len(parts) <= self.strip:
            raise UnsafeNameError(
                f"{quoted(joined(*path) or os.fsdecode(name))} has no name left: "
                f"{setting('strip', self.strip)} removes all of {os.fsdecode(name)!r}"
            )
        return self.prefix + parts[-1]


def joined(*path: AnyStr) -> str:
    """Return a path of several parts as str; empty if there are none."""
    return os.fsdecode(os.path.join(*path)) if path else ""  # noqa: PTH118 (bytes)


def check_prefix(prefix: object) -> None:
    """Check that a name of a member can begin with this.

    Raises:
        TypeError: it is not a str.
        ValueError: it is absolute, leads upwards, or holds what no name can hold.
    """
    check_text("prefix", prefix)
    try:
        check_name(encode_name(f"{prefix}x"))
    # a wrong argument is a plain ValueError
    except UnsafeNameError:
        raise ValueError(
            f"prefix must be the beginning of a relative name, such as 'train/', not {prefix!r}"
        ) from None
