"""Plain values, the choices that callers make, and the checks of arguments.

Strategy of the checks: a public function checks all of its arguments before it reads or writes anything. An error in the
arguments alone, wherever the blob is and whatever it holds, is a plain ValueError or TypeError that names the argument.
Every other error is a BlobpackError.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from operator import index
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, get_args

from blobpack._native.members import Member

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Buffer

    # what names a member: its name, which means the last member of that name; the Member, which means exactly that one;
    # or its row, negative from the end
    Which = str | Member | SupportsIndex
    # the same, after checked_which
    CheckedWhich = str | Member | int
    # a member's name, and its bytes
    Payload = tuple[str, Buffer]
    # what pack accepts: a folder, a prefix or a file; several of them; or payloads, as pairs or by name
    Packable = (
        str
        | os.PathLike[str]
        | Iterable[str | os.PathLike[str]]
        | Iterable[Payload]
        | Mapping[str, Buffer]
    )

__all__ = ["ByteRange", "Duplicates", "Member", "ScanReport"]

# what to do if two members have the same name: raise an error, or use the last one
Duplicates = Literal["refuse", "last"]

# what to do if the index belongs to another state of the blob: raise an error, or scan the blob's headers
Stale = Literal["refuse", "rescan"]

# where pack writes the index: inside the blob, behind the archive; into a file beside the blob; or nowhere
IndexPlace = Literal["embed", "sidecar", "none"]

# which headers a command scans instead of using an index: those of the first archive, or also of those joined to it
Rescan = Literal["archive", "concatenated"]

# which requests are sent a second time if their answers are late
Hedge = Literal["batches", "always", "never"]

# properties of an object in S3 that append copies to the object that replaces it, and that it may be told to drop
Property = Literal["acl", "checksum", "metadata", "tags"]

# how S3 encrypts an object: SSE-S3, SSE-KMS, or SSE-KMS in two layers
Encryption = Literal["AES256", "aws:kms", "aws:kms:dsse"]

# algorithm of the checksum that S3 compares and keeps
Checksum = Literal["CRC32", "CRC32C", "SHA1", "SHA256"]

# how an offsets file names a member: by its whole name, or by the part after the last "/"
NameStyle = Literal["path", "basename"]

# what ls sorts members by
SortKey = Literal["name", "size", "offset", "type", "width", "height", "mtime"]

OffsetsFormat = Literal["pkl", "csv", "jsonl", "parquet"]

# the indexes of other programs that are read and written
ForeignFormat = Literal[
    "dali",
    "energon",
    "energon-sqlite",
    "hfutils",
    "kerchunk",
    "ratarmount",
    "supervisely",
    "wids",
]

# the kinds of faults that verify reports
FailureKind = Literal["archive", "header", "missing", "extra", "differs", "checksum", "unreadable"]

# what Supervisely gets for each image: a dict of its REST API, or a BlobImageInfo
ImageForm = Literal["dicts", "objects"]

# what is done about images whose names a dataset of Supervisely has already: raise an error; add the time to the new
# names; leave the new images out; or remove the old ones
NameConflict = Literal["refuse", "rename", "skip", "replace"]

# what fsspec's cat does about a file that can't be read: raise its error, leave it out, or return the error in its place
OnError = Literal["raise", "omit", "return"]

# the columns of a dataset of Ray
RayColumn = Literal[
    "name",
    "bytes",
    "image",
    "blob",
    "row",
    "offset_start",
    "offset_end",
    "size",
    "media_type",
    "width",
    "height",
    "crc32c",
    "mtime",
]

# the order in which a dataset of Ray is read: as members lie in the blobs, by name, or random
RayOrder = Literal["archive", "name", "random"]

# the annotation tool that an export is for
ExportTool = Literal["coco", "cvat", "fiftyone", "huggingface", "label-studio", "sagemaker"]

# what a problem of a project of Supervisely is about; "sdk" is one that only Supervisely's SDK has
ProblemKind = Literal["meta", "blob", "offsets", "image", "annotation", "sdk"]

# what the members of a blob become in Encord
EncordKind = Literal["images", "image_groups", "image_sequences"]

# what a whole object becomes in Encord, each under a key of its own in a file; Encord has no kind for blobs, which are
# registered as text
EncordObjectKind = Literal[
    "images", "videos", "dicom_series", "audio", "text", "pdf", "nifti", "blobs"
]

# the forms of a file for Encord: JSON for the web page and the SDK, JSON of the SDK's DataUploadItems, or CSV
EncordForm = Literal["json", "items", "csv"]

# what the files for Encord are returned as
EncordOutput = Literal["dicts", "texts", "files"]

# what an image in Encord is titled: the member's name, its part after the last "/", or nothing, so that Encord takes the URL
EncordTitle = Literal["name", "basename", "url"]

# which images in a file for Encord have imageMetadata: those whose facts the index knows, all (or it is an error), or none
EncordImageMetadata = Literal["known", "require", "none"]

# how imageMetadata and the like spell their keys: fileSize, or file_size
EncordKeyStyle = Literal["camel", "snake"]

# native code starts no more threads, so a larger number would be ignored without a word
THREADS_ASKED_MAX = 64
# A cache keeps no read of more than a sixteenth of its size: a smaller one would not even keep a read of 64 KiB.
CACHE_BYTES_MIN = 1 << 20
# native code counts bytes and rows in int64
BYTES_MAX = (1 << 63) - 1


# the parts of a URL behind the scheme (RFC 3986, 3.2 to 3.4); a user ends at the last "@" before the path
URL_PARTS = re.compile(r"((?:[^/?#]*@)?)([^/?#]*)([^?#]*)([?#]?)")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]*")
HOST = re.compile(r"([^:]*|\[[^]]*\])(:[0-9]*)?")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A half-open range of bytes in a blob."""

    start: int
    end: int

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            TypeError: a bound is not a whole number.
            ValueError: the range starts before 0, or ends before it starts.
        """
        if not 0 <= check_whole("start", self.start) <= check_whole("end", self.end):
            raise ValueError(f"expected 0 ≤ start ≤ end, not {self.start} to {self.end}")

    @property
    def size(self) -> int:
        """Number of bytes in the range."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class ScanReport:
    """Counts of what a scan found, besides the members that have rows in the index.

    Attributes:
        bytes_scanned: Bytes from the start of the blob to the end of the scan.
        end_marker: Number of zero blocks at the end. POSIX requires 2. It is 1 or 0 if the writer left them out, or if
            the blob was cut between two members; tar tools accept both.
        hard_links: Members that are hard links. A hard link has a row if its target has a payload.
        dangling_links: Hard links without a row, because no earlier member has the name of their target.
        folders: Folders; they have no payload and no row.
        symbolic_links: Symbolic links; they have no payload and no row.
        devices: Character devices, block devices and FIFOs; they have no payload and no row.
        sparse: Sparse files; their payload is not one range of bytes, so they have no row.
        other: Volume labels, parts of multi-volume archives, dumped folders and unknown types; they have no row.
        members_behind: Offset of the first header behind the end-of-archive marker, if members lie there; else 0. This
            scan left them out; a scan with concatenated=True includes them.
        other_behind: Offset of the first bytes behind the marker, if they are neither zeros nor a tar header nor an index;
            else 0. If a header was overwritten by zeros, these are the bytes behind it.
        unseen_behind: Bytes at the end of a remote blob that the scan did not look at, because they lie behind 1 MiB of
            zeros.
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
    members_behind: int = 0
    other_behind: int = 0
    unseen_behind: int = 0

    def without_row(self) -> dict[str, int]:
        """Return the number of headers without a row, for each kind of which there are any."""
        kinds = ("folders", "symbolic_links", "devices", "sparse", "other", "dangling_links")
        return {kind: count for kind, count in asdict(self).items() if kind in kinds and count}


def redacted(text: str) -> str:
    """Return a URL without its user, query and fragment, which may be secrets; any other text unchanged.

    "…" stands for what is left out. Messages, reports, reprs and logs hold URLs in this form only.
    """
    scheme, separator, rest = text.partition("://")
    # in a path, and in a key of S3, "?", "#" and "@" are plain characters
    if not separator or scheme.lower() in ("s3", "file"):
        return text
    user, host, path, mark = URL_PARTS.match(rest).groups()  # type: ignore[union-attr]  # matches any text
    # A "/" or "?" in a password ends the host early; then a part of the password would count as the path.
    if "@" in rest[len(user + host) :] and not HOST.fullmatch(host):
        return f"{scheme}://…"
    return f"{scheme}://{user and '…@'}{host}{path}{mark and mark + '…'}"


def shown(value: object) -> str:
    """Return the repr of a wrong argument for a message: cut at 200 characters, and with its URLs redacted."""
    return without_secrets(repr(value))[:200]


def without_secrets(text: str) -> str:
    """Return a text with its URLs redacted."""
    return URL.sub(lambda url: redacted(url[0]), text)


def check_choice(name: str, value: object, choices: Any) -> None:
    """Check that a value is one of a Literal's choices.

    Args:
        name: Name of the argument.
        value: Its value.
        choices: The Literal.

    Raises:
        ValueError: the value is not a choice; the message lists the choices.
    """
    allowed = get_args(choices)
    # str first: `in` would compare a NumPy array with each choice, and raise an error that names no argument
    if not isinstance(value, str) or value not in allowed:
        listed = ", ".join(map(repr, allowed))
        raise ValueError(f"{name} must be one of {listed}, not {shown(value)}")


def check_choices(name: str, value: object, choices: Any) -> list[Any]:
    """Return one or several of a Literal's choices as a list.

    Raises:
        TypeError: the value is neither a str nor several of them.
        ValueError: one of them is not a choice; the message lists the choices.
    """
    texts = check_texts(name, value)
    for text in texts:
        check_choice(name, text, choices)
    return texts


def check_flag(name: str, value: object) -> None:
    """Check that a value is True or False. The str "no" would otherwise count as True.

    Raises:
        TypeError: the value is another one. 0, 1 and NumPy's booleans are accepted.
    """
    if value is True or value is False:
        return
    if isinstance(value, (str, bytes, float, Iterable)) or value not in (0, 1):
        raise TypeError(f"{name} must be True or False, not {shown(value)}")


def check_whole(name: str, value: Any) -> int:
    """Return a value as int.

    Raises:
        TypeError: the value is not a whole number.
    """
    try:
        # bool is a subclass of int, but threads=True is a mistake
        if isinstance(value, bool):
            raise TypeError
        # operator.index accepts NumPy's integers, and refuses 1.0 and "1"
        return index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {shown(value)}") from None


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number, as check_whole has it."""
    try:
        check_whole("value", value)
    except TypeError:
        return False
    return True


def check_number(name: str, value: Any, least: int, most: int = BYTES_MAX) -> None:
    """Check that a value is a whole number in a range.

    Raises:
        TypeError: the value is not a whole number.
        ValueError: the value is less than `least`, or more than `most`.
    """
    number = check_whole(name, value)
    if not least <= number <= most:
        at_least = most == BYTES_MAX and number < least
        bounds = f"at least {least}" if at_least else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, not {number}")


def check_threads(threads: int | None) -> None:
    """Check a number of threads.

    Raises:
        TypeError: the value is neither a whole number nor None.
        ValueError: the value is not from 1 to 64.
    """
    if threads is not None:
        check_number("threads", threads, 1, THREADS_ASKED_MAX)


def check_path(name: str, value: object) -> str:
    """Return a path or URL as str.

    Raises:
        TypeError: the value is neither a str nor a path object.
        ValueError: the value is empty, or no system accepts it: it holds a NUL, or a surrogate that stands for no byte.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path or URL, not {shown(value)}")
    path = os.fspath(value)
    if not isinstance(path, str):
        raise TypeError(f"{name} must be a path of type str, not {shown(path)}")
    if not path:
        raise ValueError(f"{name} must be a path or URL, not empty")
    # a path ends at a NUL in every system call; a URL is percent-encoded before it is sent
    if "\0" in path and "://" not in path:
        raise ValueError(f"{name} must be a path without NUL, not {path!r}")
    # asked first: it takes a fraction of the time of encoding, and an index is opened in 20 us
    if not path.isascii():
        try:
            os.fsencode(path)
        except UnicodeEncodeError as exc:
            raise ValueError(f"{name} must be a path that can be encoded, not {path!r}") from exc
    return path


def check_text(name: str, value: object) -> None:
    """Check that a value is a str.

    Raises:
        TypeError: the value is not a str.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {shown(value)}")


def check_texts(name: str, value: object) -> list[str]:
    """Return a list of one or several str, such as globs.

    Raises:
        TypeError: the value is neither a str nor several of them.
    """
    # a str is iterable, too, and its characters are not meant
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, (bytes, bytearray)) or not isinstance(texts, Iterable):
        raise TypeError(f"{name} must be one or several str, not {shown(value)}")
    listed = list(texts)
    for text in listed:
        if not isinstance(text, str):
            raise TypeError(f"{name} must be one or several str, but one is {shown(text)}")
    return listed


def check_several(name: str, value: object, what: str) -> None:
    """Check that a value holds several things, and is not one of them.

    Args:
        name: Name of the argument.
        value: Its value.
        what: What it should hold, in the plural, for messages.

    Raises:
        TypeError: the value can't be iterated, or is a str, bytes or a path.
    """
    if isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(
            f"{name} must be several {what}, not one: put it into a list, [{shown(value)}]"
        )
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} must be several {what}, not {shown(value)}")


def check_callable(name: str, value: object) -> None:
    """Check that a value is a function or None.

    Raises:
        TypeError: the value is neither.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function or None, not {shown(value)}")
