"""Offsets files against `read_offsets`. Oracle: CPython's unpickler, which may make one class and call nothing else.

A file that blobpack accepts must hold the rows that CPython finds in it. A sound file must be accepted.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import TYPE_CHECKING, Any, NamedTuple

from blobpack import FormatError, read_offsets
from fuzz.damage import damage

if TYPE_CHECKING:
    import random
    from pathlib import Path

    Row = tuple[str, int, int]

MODULE, CLASS = "supervisely.api.image_api", "BlobImageInfo"
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
# what one meaning is called in the SDK's objects and in the dicts of its API
MEANINGS = {"title": "name", "offsetStart": "offset_start", "offsetEnd": "offset_end"}


class BlobImageInfo:
    """The SDK's class, as far as its pickles show it."""

    def __init__(self, name: str, offset_start: int, offset_end: int) -> None:
        self.name, self.offset_start, self.offset_end = name, offset_start, offset_end


class Pickler(pickle._Pickler):
    """Writes the class under the SDK's name; the pickler in Python has a hook for it that is not documented."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Write the reference to the class."""
        if self.proto >= 4:
            self.save(MODULE)
            self.save(CLASS)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{MODULE}\n{CLASS}\n".encode())
        self.memoize(obj)

    dispatch = pickle._Pickler.dispatch | {type: save_global}


class Unpickler(pickle.Unpickler):
    """CPython's unpickler, which finds no class but the SDK's."""

    def find_class(self, module: str, name: str) -> type:
        """Return the one class."""
        if (module, name) != (MODULE, CLASS):
            raise pickle.UnpicklingError(f"{module}.{name}")
        return BlobImageInfo


class Case(NamedTuple):
    """An offsets file, and its rows if it is sound."""

    data: bytes
    rows: list[Row] | None


def make(generator: random.Random) -> Case:
    """Make an offsets file of several pickles and protocols, two times in three damaged."""
    rows: list[Row] = []
    data = b""
    for _ in range(generator.randint(1, 3)):
        batch = [make_row(generator) for _ in range(generator.choice((0, 1, 2, 5, 40)))]
        file = io.BytesIO()
        protocol = generator.choice((2, 3, 4, 4, 5))
        as_item = generator.choice((BlobImageInfo, BlobImageInfo, in_api_form, in_flat_form))
        Pickler(file, protocol).dump([as_item(*row) for row in batch])
        rows += batch
        data += file.getvalue()
    if generator.random() < 0.34:
        return Case(data, rows)
    if generator.random() < 0.5:
        place = generator.randrange(len(data))
        return Case(
            data[:place] + generator.choice(OPCODES) + data[place + generator.randrange(2) :], None
        )
    return Case(damage(data, generator), None)


def in_api_form(name: str, offset_start: int, offset_end: int) -> dict[str, object]:
    """Return a row as the SDK's API has it, with a field that says nothing about rows."""
    source = {"offsetStart": offset_start, "offsetEnd": offset_end}
    return {"title": name, "link": None, "sourceBlob": source}


def in_flat_form(name: str, offset_start: int, offset_end: int) -> dict[str, object]:
    """Return a row as one dict."""
    return {"name": name, "offset_start": offset_start, "offset_end": offset_end, "score": 0.5}


def make_row(generator: random.Random) -> Row:
    """Make a row; some names stand twice, and some offsets need another number of bytes."""
    name = generator.choice(("a", "é", "n" * 255, "n" * 256, "\udc80", f"{generator.random()}.jpg"))
    start, end = sorted(
        generator.randrange(1 << generator.choice((3, 8, 16, 31, 32, 63))) for _ in "ab"
    )
    return name, start, end


def check(case: Case, folder: Path) -> str:
    """Compare the rows with those that CPython finds.

    Returns:
        "refused", or "accepted".
    """
    path = folder / "a_offsets.pkl"
    path.write_bytes(case.data)
    try:
        index = read_offsets(path)
    except FormatError as exc:
        assert exc.offset is not None
        assert 0 <= exc.offset <= len(case.data)
        assert case.rows is None, exc
        return "refused"
    ours = [(member.name, member.offset_start, member.offset_end) for member in index]
    expected = case.rows if case.rows is not None else unpickled(without_frames(case.data))
    assert ours == expected, (ours, expected)
    return "accepted"


def without_frames(data: bytes) -> bytes:
    """Return pickles without their FRAME opcodes, which say nothing about rows.

    blobpack passes over them, as CPython does in a stream that it can't read ahead.
    """
    file = io.BytesIO(data)
    kept = b""
    while file.tell() < len(data):
        start = file.tell()
        for opcode, _, place in pickletools.genops(file):
            if opcode.name == "FRAME":
                kept += data[start:place]
                start = place + 9
        kept += data[start : file.tell()]
    return kept


def unpickled(data: bytes) -> list[Row]:
    """Return the rows that CPython finds in consecutive pickles of lists."""
    file = io.BytesIO(data)
    rows: list[Row] = []
    while file.tell() < len(data):
        for item in Unpickler(file).load():
            fields: dict[str, Any] = {}
            for key, value in (item if isinstance(item, dict) else vars(item)).items():
                inner = value.items() if isinstance(value, dict) else [(key, value)]
                fields |= {MEANINGS.get(name, name): field for name, field in inner}
            rows.append((fields["name"], fields["offset_start"], fields["offset_end"]))
    return rows
