"""Plain values that everything else passes around, the choices that callers make, and the checks of arguments.

Strategy of the checks: a public function checks all of its arguments before it reads or writes anything. Whatever is
wrong with the arguments alone, wherever the blob lies and whatever is in it, is a plain ValueError or TypeError that
names the argument. Everything else is a BlobpackError.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from operator import index
from typing import TYPE_CHECKING, Any, Literal, get_args

from blobpack._native.members import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    Payload = tuple[str, Buffer]  # a member's name, and its bytes
    # what may be given to pack: a folder, a prefix or a file; files; or payloads
    Packable = str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Iterable[Payload]
    ProgressCallback = Callable[[int, int], object]  # how many are done, and their bytes

__all__ = ["ByteRange", "Duplicates", "Member", "ScanReport"]

# what to do about two members of one name: raise an error, or let the last one count
Duplicates = Literal["refuse", "last"]

# what to do with an index of another state of the blob: raise an error, or scan the blob's headers
Stale = Literal["refuse", "rescan"]

# where a blob's index goes: behind the archive, into a file beside the blob, or nowhere
IndexPlace = Literal["embed", "sidecar", "none"]

# which requests are sent a second time when their answers are late
Hedge = Literal["batches", "always", "never"]

# what an offsets file calls a member: its name, or what stands behind the last "/"
NameStyle = Literal["path", "basename"]

OffsetsFormat = Literal["pkl", "csv", "jsonl", "parquet"]

# what verify finds wrong
FailureKind = Literal["archive", "header", "missing", "extra", "differs", "checksum", "unreadable"]

THREADS_ASKED_MAX = 64  # native code starts no more, so a larger number would be ignored
CACHE_BYTES_MIN = 1 << 20  # a cache that may take less would keep nothing
BYTES_MAX = (1 << 63) - 1  # native code counts bytes and rows in int64


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


def check_choice(name: str, value: object, choices: Any) -> None:
    """Check that a value is one of a Literal's choices.

    Args:
        name: The argument.
        value: What was given for it.
        choices: The Literal.

    Raises:
        ValueError: the value is none of the choices, which the message lists.
    """
    allowed = get_args(choices)
    if not isinstance(value, str) or value not in allowed:
        listed = ", ".join(map(repr, allowed))
        raise ValueError(f"{name} must be one of {listed}, not {value!r:.200}")


def check_flag(name: str, value: object) -> None:
    """Check that a value is True or False: the text "no" would count as True.

    Raises:
        TypeError: the value is neither. 0, 1 and NumPy's booleans will do.
    """
    if value is True or value is False:
        return
    if isinstance(value, (str, bytes, Iterable)) or value not in (0, 1):
        raise TypeError(f"{name} must be True or False, not {value!r:.200}")


def check_whole(name: str, value: Any) -> int:
    """Return a whole number.

    Raises:
        TypeError: the value is none.
    """
    try:
        if isinstance(value, bool):  # an int to Python, and a slip here
            raise TypeError
        return index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r:.200}") from None


def check_number(name: str, value: Any, least: int, most: int = BYTES_MAX) -> None:
    """Check that a value is a whole number from the least to the most.

    Raises:
        TypeError: the value is no whole number.
        ValueError: the value is less than the least, or more than the most.
    """
    number = check_whole(name, value)
    if not least <= number <= most:
        bounds = f"at least {least}" if most == BYTES_MAX else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, not {number}")


def check_threads(threads: int | None) -> None:
    """Check that so many threads can be started.

    Raises:
        TypeError: it is neither a whole number nor None.
        ValueError: it is out of range.
    """
    if threads is not None:
        check_number("threads", threads, 1, THREADS_ASKED_MAX)


def check_path(name: str, value: object) -> str:
    """Return a path or URL as str.

    Raises:
        TypeError: the value is neither str nor a path object that stands for one.
        ValueError: the value is empty, or holds what no system takes: a NUL, or a surrogate that stands for no byte.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path or URL, not {value!r:.200}")
    path = os.fspath(value)
    if not isinstance(path, str):
        raise TypeError(f"{name} must be a path of type str, not {path!r:.200}")
    if not path:
        raise ValueError(f"{name} must be a path or URL, not empty")
    if "\0" in path and "://" not in path:
        raise ValueError(f"{name} must be a path without NUL, not {path!r}")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as exc:
        raise ValueError(f"{name} must be a path that can be encoded, not {path!r}") from exc
    return path


def check_local_path(name: str, value: object) -> None:
    """Check that a value is the path of a local file: a URL would make folders called `s3:`.

    Raises:
        TypeError: the value is neither str nor a path object that stands for one.
        ValueError: the value is empty, or a URL.
    """
    check_path(name, value)
    if isinstance(value, str) and "://" in value:
        raise ValueError(f"{name} must be a local path, not {value!r:.200}")


def check_output(name: str, value: object) -> None:
    """Check that a value is a local path, or a file that is open for writing.

    Raises:
        TypeError: the value is neither.
        ValueError: the value is empty, or a URL.
    """
    if not hasattr(value, "write"):
        check_local_path(name, value)


def check_text(name: str, value: object) -> None:
    """Check that a value is a str.

    Raises:
        TypeError: the value is no str.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {value!r:.200}")


def check_texts(name: str, value: object) -> list[str]:
    """List several texts, such as globs; one text that is given alone is a list of one.

    Raises:
        TypeError: the value is neither a str nor several of them.
    """
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, (bytes, bytearray)) or not isinstance(texts, Iterable):
        raise TypeError(f"{name} must be one or several str, not {value!r:.200}")
    listed = list(texts)
    for text in listed:
        if not isinstance(text, str):
            raise TypeError(f"{name} must be one or several str, and one is {text!r:.200}")
    return listed


def check_several(name: str, value: object, what: str) -> None:
    """Check that a value is several things, not one.

    Raises:
        TypeError: the value can't be iterated, or is a text, whose letters are not meant.
    """
    if isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{name} must be several {what}, not one: [{value!r:.200}]")
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} must be several {what}, not {value!r:.200}")


def check_callable(name: str, value: object) -> None:
    """Check that a value is a function or None.

    Raises:
        TypeError: the value is neither a function nor None.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function or None, not {value!r:.200}")


def names_of(names: Iterable[str | Member], argument: str = "names") -> Iterator[str]:
    """Return names, or the names of members, one after the other.

    Raises:
        TypeError: one name instead of several; or, when it is reached, what is neither a name nor a Member.
    """
    check_several(argument, names, "names or members")

    def name_of(name: str | Member) -> str:
        if isinstance(name, str):
            return name
        if isinstance(name, Member):
            return name.name
        raise TypeError(f"{argument} must be several names or members, and one is {name!r:.200}")

    return map(name_of, names)


def members_of(members: Iterable[Member]) -> Iterator[Member]:
    """Return members, one after the other.

    Raises:
        TypeError: one thing instead of several; or, when it is reached, what is no Member.
    """
    check_several("members", members, "Members")

    def checked(member: Member) -> Member:
        if not isinstance(member, Member):
            raise not_a_member(member)
        return member

    return map(checked, members)


def not_a_member(thing: object) -> TypeError:
    """Return the error for what is no Member, among members."""
    return TypeError(
        f"members must be Members, such as an index of some, and one is {thing!r:.200}"
    )
