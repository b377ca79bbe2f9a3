"""The plain values that everything else passes around; no I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

from blobpack._native.members import Member

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

    Payload = tuple[str, Buffer]  # a member's name, and its bytes
    # what may be given to pack: a folder, a prefix or a file; files; or payloads
    Packable = str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Iterable[Payload]
    Progress = Callable[[int, int], object]  # how many are done, and their bytes

__all__ = ["ByteRange", "Duplicates", "Member", "ScanReport"]

# of members with one name: an error, or the last one counts
Duplicates = Literal["refuse", "last"]

Stale = Literal["refuse", "rescan"]

IndexPlace = Literal["embed", "sidecar", "none"]

Hedge = Literal["batches", "always", "never"]


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes start to end of a blob, half-open."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes it covers."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What a scan met, beside the members it lists.

    Attributes:
        bytes_scanned: From the start of the blob to where the walk ended.
        end_marker: Zero blocks found at the end: 2 as tar prescribes; 1 or 0 if the writer left them
            out or the blob was cut between two members, which tar tools accept.
        hard_links: Members that are hard links; those whose target has a payload have a row.
        dangling_links: Hard links without a row: nothing before them has the name they point at.
        folders: No payload, no row.
        symbolic_links: No payload, no row.
        devices: Character and block devices and FIFOs: no payload, no row.
        sparse: Sparse files: their payload is not one byte range, so no row.
        other: Volume labels, multi-volume parts, dump folders and unknown types: no row.
    """

    bytes_scanned: int
    end_marker: int
    hard_links: int = 0
    dangling_links: int = 0
    folders: int = 0
    symbolic_links: int = 0
    devices: int = 0
    sparse: int = 0
    other: int = 0

    def without_row(self) -> dict[str, int]:
        """The counts of what has no row, those that are not zero."""
        kinds = ("folders", "symbolic_links", "devices", "sparse", "other", "dangling_links")
        return {kind: count for kind, count in asdict(self).items() if kind in kinds and count}


def check_duplicates(duplicates: Duplicates) -> None:
    """Refuse what is no choice.

    Raises:
        ValueError: neither "refuse" nor "last".
    """
    if duplicates not in get_args(Duplicates):
        raise ValueError(f"duplicates must be 'refuse' or 'last', not {duplicates!r}")


def listed(globs: Iterable[str]) -> list[str]:
    """Take globs, or one that was given alone."""
    return [globs] if isinstance(globs, str) else list(globs)


def names_of(names: Iterable[str | Member]) -> Iterator[str]:
    """Take names, or the names of members.

    Raises:
        TypeError: one name instead of several: its letters are not meant.
    """
    if isinstance(names, str):
        raise TypeError(f"several names are wanted, not one: [{names!r}]")
    return (name if isinstance(name, str) else name.name for name in names)
