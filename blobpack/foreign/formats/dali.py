r"""The index of NVIDIA DALI, which wds2idx writes: text, one line for each sample.

The first line is "v1.2" and the number of samples. Each other line has, for each file of the sample, its extension, offset,
size and name, with blanks between all of them. Versions before v1.2 have no names. Nothing is recorded about the tar.

wds2idx takes names from GNU tar, which writes "\303\266" for "ö" in the locale C. A blank in a name is a blank in the line,
too. wds2idx computes wrong offsets for members with names of more than 100 bytes in a tar of GNU format.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING

from blobpack.foreign.fit import ForeignRows, fit
from blobpack.foreign.formats.samples import group_samples, split_for_dali

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.foreign.index_file import IndexFile
    from blobpack.foreign.source import SourceBlob
    from blobpack.index.index import Index
    from blobpack.stores.base import Store

FIRST_LINE = re.compile(rb"v1\.([0-2]) (\d{1,18})\r?\n")
# extension, offset, size and name; the name ends before the next extension, or at the end of the line. An extension begins
# a word: a search from each letter of a long word would take time that grows with the square of its length.
NAMED_FILE = re.compile(r"(?<!\S)(\S+) (\d+) (\d+) (.+?)(?= \S+ \d+ \d+ |$)")
# GNU tar writes bytes that it does not print in this form. blobpack writes a blank so, too, because it would end the name.
SPELLED = re.compile(rb"\\([0-7]{3}|[abfnrtv\\])")
UNSPELLED = dict(zip(b"abfnrtv\\", b"\a\b\f\n\r\t\v\\", strict=True))


def matches(file: IndexFile) -> bool:
    """Return whether a file begins as an index of DALI."""
    return FIRST_LINE.match(file.head) is not None


def read(file: IndexFile, store: Store) -> Index:
    """Read an index of DALI; see table.py."""
    first, *lines = file.content.decode("utf-8", "surrogateescape").split("\n")
    if not lines or lines.pop():
        raise file.fault("the last line is cut", file.store.size)
    version, count = first.split(" ")
    if len(lines) != int(count):
        raise file.fault(f"the first line promises {count} samples, but there are {len(lines)}")
    has_names = version == "v1.2"
    names: list[str] = []
    start, end = array("q"), array("q")
    for number, line in enumerate(lines, 2):
        for offset, size, name in _files_in(line.rstrip("\r"), number, file, has_names=has_names):
            start.append(offset)
            end.append(offset + size)
            names.append(name)
    return fit(ForeignRows(names if has_names else None, start, end), file, store)


def _files_in(
    line: str, number: int, file: IndexFile, *, has_names: bool
) -> Iterator[tuple[int, int, str]]:
    """Yield offset, size and name of each file in a line."""
    words = line.split(" ")
    width = 4 if has_names else 3
    # a name with blanks adds words
    if len(words) % width == 0 and all(map(str.isdecimal, (*words[1::width], *words[2::width]))):
        named = words[3::width] if has_names else [""] * (len(words) // width)
        found = list(zip(words[1::width], words[2::width], named, strict=True))
    else:
        found = [(each[2], each[3], each[4]) for each in NAMED_FILE.finditer(line)]
        if not has_names or sum(len(" ".join(each)) for each in found) == 0:
            raise file.fault(
                f"line {number} is not extension, offset, size"
                f"{' and name' if has_names else ''} of each file: {line[:80]!r}"
            )
    for offset, size, name in found:
        begin, length = (_number(text, number, file) for text in (offset, size))
        if begin + length >= 1 << 63:
            raise file.fault(f"line {number} has {name!r} at byte {begin}, past 2⁶³ bytes")
        yield begin, length, _unspelled(name) if "\\" in name else name


def _number(text: str, line: int, file: IndexFile) -> int:
    # Python refuses to parse numbers of thousands of digits, and isdecimal accepts digits of other scripts
    if len(text) > 19 or not text.isascii():
        raise file.fault(f"line {line} has the number {text[:40]!r}, expected less than 2⁶³")
    return int(text)


def _unspelled(name: str) -> str:
    """Return a name as it is in the tar, from one as GNU tar lists it."""

    def byte(found: re.Match[bytes]) -> bytes:
        digits = found[1]
        return bytes([int(digits, 8) & 255 if len(digits) == 3 else UNSPELLED[digits[0]]])

    return SPELLED.sub(byte, name.encode("utf-8", "surrogateescape")).decode(
        "utf-8", "surrogateescape"
    )


def _spelled(name: str) -> str:
    """Return a name as one word of a line."""
    text = name.replace("\\", "\\\\")
    return re.sub(r"\s", lambda blank: "".join(f"\\{each:03o}" for each in blank[0].encode()), text)


def encode(blobs: list[SourceBlob]) -> tuple[bytes, int]:
    """Write an index of DALI; see table.py."""
    (blob,) = blobs
    index, rows = blob.index, 0
    lines = []
    for _, files in group_samples(index.names, split_for_dali):
        words = []
        for row, extension in files:
            offset, end = index._bounds_at(row)
            # a blank in an extension would end it
            if any(map(str.isspace, extension)):
                continue
            words += [extension, str(offset), str(end - offset), _spelled(index._name_at(row))]
            rows += 1
        if words:
            lines.append(" ".join(words))
    text = "\n".join([f"v1.2 {len(lines)}", *lines, ""])
    return text.encode("utf-8", "surrogateescape"), rows
