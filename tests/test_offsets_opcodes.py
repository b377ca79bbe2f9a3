"""Offsets files opcode by opcode: each means what CPython's unpickler makes of it, and a fault names its opcode."""

from __future__ import annotations

import io
import struct
from array import array
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fuzz.fuzz_offsets import unpickled
from tars import walked_rows

from blobpack import FormatError, TruncatedError
from blobpack._native.pickles import OffsetsDecoder, encode_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    Row = tuple[str, int, int]

HEAD = b"\x80\x04"
CLASS = b"\x8c\x19supervisely.api.image_api\x8c\x0dBlobImageInfo\x93"
GLOBAL = b"csupervisely.api.image_api\nBlobImageInfo\n"
NAME, START, END = b"\x8c\x04name", b"\x8c\x0coffset_start", b"\x8c\x0aoffset_end"
BAD_CLASS = "a class other than supervisely.api.image_api.BlobImageInfo"
BAD_MEMO = "a memo that was never stored"
BAD_NUMBER = "a number or length beyond 64 bits"
BAD_OPCODE = "an opcode that no offsets file holds"
BAD_PROTOCOL = "not the beginning of a pickle of protocol 2 to 5"
BAD_RANGE = "a row whose offsets are negative or out of order"
BAD_RESULT = "a pickle that is not one list of rows"
BAD_ROW = "a row without name and offsets, or of other types"
BAD_STACK = "opcodes that do not make a list of rows"
BAD_TEXT = "a text that is not UTF-8"
CUT = "the offsets file ends inside a pickle"


class Trickle(io.BytesIO):
    """A file that gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self.most = most

    def readinto(self, room: memoryview) -> int:  # type: ignore[override]
        return super().readinto(memoryview(room)[: self.most])


def decode(data: bytes, *, most: int = 1 << 30) -> list[Row]:
    columns = OffsetsDecoder(Trickle(data, most), "x.pkl").read_batch(1 << 62)
    return (
        [(name, start, start + size) for name, start, size in walked_rows(columns)]
        if columns
        else []
    )


def text(name: bytes) -> bytes:
    """The opcode of a text: the shorter one where it will do."""
    length = len(name)
    return (b"\x8c%c" % length if length < 256 else b"X" + struct.pack("<I", length)) + name


def fields(name: bytes = text(b"a"), start: bytes = b"K\x01", end: bytes = b"K\x02") -> bytes:
    """A dict of a row, given its values' opcodes."""
    return b"}(" + NAME + name + START + start + END + end + b"u"


def pickle_of(*parts: bytes, head: bytes = HEAD) -> bytes:
    """A pickle of one list, to which the rows that parts make are appended."""
    return head + b"](" + b"".join(parts) + b"e."


# Meanings: CPython is asked, too


INTEGERS = [
    *(b"K" + bytes([value]) for value in (0, 1, 127, 128, 255)),
    *(b"M" + struct.pack("<H", value) for value in (0, 255, 256, 1 << 15, (1 << 16) - 1)),
    *(b"J" + struct.pack("<i", value) for value in (0, 1 << 16, 0x01020304, (1 << 31) - 1)),
    *(
        opcode + (1 << 8 * width - 2 | 5).to_bytes(width, "little")
        for width in range(1, 9)
        for opcode in (bytes([0x8A, width]), b"\x8b" + struct.pack("<I", width))
    ),
    b"\x8a\x00",
    b"\x8b\0\0\0\0",
    b"\x8a\x02\xff\x00",
]


@pytest.mark.parametrize("end", INTEGERS, ids=bytes.hex)
def test_a_number_of_any_opcode_and_width(end: bytes) -> None:
    data = pickle_of(fields(start=b"K\x00", end=end))
    assert decode(data) == unpickled(data)


NEGATIVE = [
    *(b"J" + struct.pack("<i", value) for value in (-1, -(1 << 31))),
    *(
        bytes([0x8A, width]) + value.to_bytes(width, "little", signed=True)
        for width in range(1, 9)
        for value in (-1, -(1 << 8 * width - 1))
    ),
]


@pytest.mark.parametrize("start", NEGATIVE, ids=bytes.hex)
def test_a_negative_number_of_any_width_is_no_offset(start: bytes) -> None:
    data = pickle_of(fields(start=start, end=b"\x8a\x08" + b"\xff" * 7 + b"\x7f"))
    assert unpickled(data)[0][1] < 0
    assert_fault(data, -2, BAD_RANGE)


TEXTS = [
    b"",
    b"a",
    "é日💥".encode(),
    b"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80",
    *(bytes([0xED, 0xB0 | byte >> 6, 0x80 | byte & 0x3F]) for byte in range(0x80, 0x100)),
    b"a\xed\xb2\x80b\xed\xb3\xbf" + "é".encode(),
    b"n" * 1000 + b"\xed\xb2\xa9",
]


@pytest.mark.parametrize("name", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("opcode", [b"\x8c", b"X", b"\x8d"])
def test_a_text_of_any_opcode_and_bytes(opcode: bytes, name: bytes) -> None:
    """Between others: that a name is written in place must not move the next one."""
    if opcode == b"\x8c" and len(name) > 255:
        pytest.skip("longer than the opcode can say")
    width = {b"\x8c": 1, b"X": 4, b"\x8d": 8}[opcode]
    item = opcode + len(name).to_bytes(width, "little") + name
    data = pickle_of(fields(), fields(item), fields(text(b"last")))
    expected = name.decode("utf-8", "surrogatepass").encode("utf-8", "surrogateescape")
    assert decode(data) == unpickled(data)
    assert decode(data)[1][0].encode("utf-8", "surrogateescape") == expected


NO_TEXTS = [
    b"\x80",
    b"\xff",
    b"a\xc3",
    b"\xed\xb2",
    b"\xed\xb2\x40",
    b"\xed\xb2\xc0",
    b"\xed\xb1\x80",
    b"\xed\xb4\x80",
    b"\xed\xa0\x80",
    b"\xee\xb2",
    b"\xec\xb2",
    b"\xc0\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xff\xa0\x80",
    b"\x80\xbf\x80",
]


@pytest.mark.parametrize("before", range(3))
def test_a_name_is_not_read_beyond_its_end(before: int) -> None:
    """Names shrink as they are written in place, so bytes of the one before may stand behind a name."""
    cut = text(b"a" * before + b"\xed\xb2")
    data = pickle_of(fields(text(b"\xed\xb2\x80" * 10)), fields(cut))
    assert_fault(data, data.rindex(cut), BAD_TEXT)


@pytest.mark.parametrize("name", NO_TEXTS, ids=bytes.hex)
def test_a_name_that_no_tar_holds_is_refused(name: bytes) -> None:
    """A text that CPython would refuse is a fault of its opcode, and other surrogates than those of PEP 383 one of the row."""
    for before in (0, 1, 7, 8, 9, 16):  # eight characters of ASCII are passed over at once
        bad = text(b"a" * before + name)
        data = pickle_of(fields(), fields(bad))
        try:
            name.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            assert_fault(data, data.rindex(bad), BAD_TEXT)
        else:
            assert_fault(data, -2, BAD_TEXT)


MEANINGS = {
    "BUILD by STACK_GLOBAL": pickle_of(CLASS + b")\x81" + fields() + b"b"),
    "BUILD by GLOBAL": pickle_of(GLOBAL + b")\x81" + fields() + b"b", head=b"\x80\x02"),
    "a dict": pickle_of(fields()),
    **{f"protocol {number}": pickle_of(fields(), head=b"\x80" + bytes([number])) for number in range(2, 6)},
    "an empty list": HEAD + b"].",
    "an empty APPENDS": HEAD + b"](e.",
    "an empty SETITEMS": pickle_of(b"}(u(" + fields()[2:]),
    "APPEND": HEAD + b"]" + fields() + b"a.",
    "APPEND and APPENDS": HEAD + b"]" + fields() + b"a(" + fields(text(b"b")) * 2 + b"e" + fields() + b"a.",
    "SETITEM": pickle_of(b"}" + NAME + text(b"a") + b"s" + START + b"K\x03s" + END + b"K\x05s"),
    "the last of equal keys": pickle_of(fields()[:-1] + NAME + text(b"z") + b"u(" + END + b"K\x09u"),
    "other keys": pickle_of(
        b"}(" + b"".join(text(b"key%d" % i) + value for i, value in enumerate((b"N", b"\x88", b"\x89", b"G" + bytes(8), b"K\x01", text(b"t"))))
        + fields()[2:]
    ),
    "FRAMEs of any length": HEAD + b"\x95" + b"\xff" * 8 + b"](" + b"\x95" + bytes(8) + fields() + b"e.",
    "a memo by MEMOIZE": pickle_of(fields(text(b"n") + b"\x94"), fields(b"h\x00"), fields(b"j\0\0\0\0")),
    "a memo by PUT": pickle_of(fields(text(b"n") + b"q\x00"), fields(text(b"m") + b"r\x01\0\0\0"), fields(b"h\x00"), fields(b"h\x01")),
    "a memo that is stored again": pickle_of(fields(text(b"n") + b"q\x00"), fields(text(b"m") + b"q\x00"), fields(b"h\x00")),
    "MEMOIZE behind a PUT": pickle_of(fields(text(b"n") + b"q\x00" + b"q\x01"), fields(text(b"m") + b"q\x00\x94"), fields(b"h\x02"), fields(b"h\x01")),
    "a row of the memo": pickle_of(fields() + b"\x94", b"h\x00", fields(text(b"b")), b"h\x00"),
    "a row that is built from a row's dict": pickle_of(CLASS + b")\x81" + fields() + b"\x94b", CLASS + b")\x81h\x00b"),
    "many memos": pickle_of(*(fields(text(b"%d" % i) + b"\x94") for i in range(2500)), *(fields(b"j" + struct.pack("<I", i)) for i in (0, 255, 1023, 1024, 2499))),
    "many rows at once": pickle_of(*(fields(text(b"%d" % i), end=b"M" + struct.pack("<H", i + 1)) for i in range(5000))),
    "many keys at once": pickle_of(b"}(" + b"".join(text(b"%d" % i) + b"N" for i in range(3000)) + fields()[2:]),
    "two pickles": pickle_of(fields(text(b"n") + b"\x94")) + pickle_of(fields(text(b"m") + b"\x94"), fields(b"h\x00")),
    "the REST form": pickle_of(b"}(" + text(b"title") + text(b"a") + text(b"sourceBlob") + b"}(" + text(b"offsetStart") + b"K\x03" + text(b"offsetEnd") + b"K\x04uu"),
    "half of the offsets in sourceBlob": pickle_of(b"}(" + text(b"title") + text(b"a") + END + b"K\x04" + text(b"sourceBlob") + b"}" + text(b"offsetStart") + b"K\x03su"),
    "the other half": pickle_of(b"}(" + text(b"title") + text(b"a") + START + b"K\x01" + text(b"sourceBlob") + b"}" + text(b"offsetEnd") + b"K\x03su"),
}  # fmt: skip


@pytest.mark.parametrize("meaning", MEANINGS)
def test_what_opcodes_mean_is_what_cpython_makes_of_them(meaning: str) -> None:
    data = MEANINGS[meaning]
    if meaning.startswith("FRAME"):  # a length that lies; CPython would look for the bytes
        assert decode(data) == unpickled(
            data.replace(b"\x95" + b"\xff" * 8, b"").replace(b"\x95" + bytes(8), b"")
        )
    else:
        assert decode(data) == unpickled(data)


@pytest.mark.parametrize("most", [1, 2, 3, 1000])
def test_a_file_that_gives_few_bytes_at_a_time_is_read_alike(most: int) -> None:
    data = b"".join(MEANINGS[name] for name in MEANINGS if "many" not in name)
    assert decode(data, most=most) == decode(data)


def test_a_reader_gives_its_memory_back() -> None:
    """Also the virtual one: it has a buffer of 4 MiB, of which little is touched."""

    def pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0])

    data = MEANINGS["a row of the memo"]
    decode(data)
    before = pages()
    for _ in range(300):
        decode(data)
        with pytest.raises(FormatError):
            decode(data[:-1] + b"x")
        encode([("n" * 100_000, 0, 1)], 0, 1)
    assert (pages() - before) * 4096 < 6 << 20


def rows_of(file: io.BytesIO, rows: int) -> Iterator[list[Row]]:
    decoder = OffsetsDecoder(file, "x.pkl")
    while (columns := decoder.read_batch(rows)) is not None:
        yield [(name, start, start + size) for name, start, size in walked_rows(columns)]


@pytest.mark.parametrize("most", [1 << 30, 3_000_017])
def test_pickles_larger_than_what_is_read_at_once(most: int) -> None:
    """4 MiB are read at once; a pickle may need several reads, and begin anywhere in them."""
    rows = [(f"{i:06}" + "n" * 300, i, 2 * i) for i in range(40_000)]
    items = [
        fields(text(name.encode()), b"J" + struct.pack("<i", start), b"J" + struct.pack("<i", end))
        for name, start, end in rows
    ]
    bounds = [0, 10, 25_000, 25_003, 40_000]
    data = b"".join(pickle_of(*items[a:b]) for a, b in pairwise(bounds))
    assert len(data) > 3 * (4 << 20)
    assert [row for batch in rows_of(Trickle(data, most), 1) for row in batch] == rows
    assert list(map(len, rows_of(Trickle(data, most), 11))) == [25_000, 15_000]


# Names that repeat: up to sixteen times the bytes that were read, and a mebibyte


@pytest.mark.parametrize("over", [0, 1])
def test_names_of_the_memo_may_take_so_much_and_no_more(over: int) -> None:
    name = b"n" * 4096
    first = fields(text(name) + b"\x94")
    row = b"}(" + NAME + b"h\x00" + START + b"K\x01" + END + b"K\x02ua"
    data = HEAD + b"]" + first + b"a"
    rows = 1
    while (rows + 1) * len(name) <= 16 * (len(data) + len(row) - 1) + (1 << 20):
        data += row
        rows += 1
    assert rows > 300
    data += row * over + b"."
    if over:
        assert_fault(data, -2, "names repeated until they fill the memory")
    else:
        assert decode(data) == [(name.decode(), 1, 2)] * rows


@pytest.mark.parametrize("over", [0, 1])
def test_names_may_take_exactly_as_much_as_the_bound(over: int) -> None:
    """Seventeen rows share a name, which is so long that they take sixteen times the bytes read, and a mebibyte."""

    def pickled(name: bytes) -> bytes:
        shared = fields(b"h\x00") * 16
        return pickle_of(fields(b"X" + struct.pack("<I", len(name)) + name + b"\x94"), shared)

    read = len(pickled(b"")) - 2  # bytes before APPENDS, but for the name
    name = b"n" * (16 * read + (1 << 20) + over)
    if over:
        assert_fault(pickled(name), -2, "names repeated until they fill the memory")
    else:
        assert decode(pickled(name)) == [(name.decode(), 1, 2)] * 17


# Faults, each with its byte


def assert_fault(data: bytes, offset: int, message: str) -> None:
    """Check the fault of a file, alone and behind others, also where its bytes come one by one.

    Args:
        data: The file.
        offset: Of the opcode at fault; a negative one counts from the end.
        message: What is said of it.
    """
    before = pickle_of(fields(), fields())
    for prefix, most in ((b"", 1 << 30), (before * 2, 1 << 30), (before, 1)):
        with pytest.raises(FormatError) as caught:
            decode(prefix + data, most=most)
        assert (type(caught.value) is TruncatedError) == (message == CUT)
        at = len(prefix) + (offset if offset >= 0 else len(data) + offset)
        assert caught.value.offset == at
        assert str(caught.value) == f"x.pkl: {message}, at byte {at}"


ROW = CLASS + b")\x81" + fields() + b"b"
FAULTS = {
    "STOP without PROTO": (b".", 0, BAD_PROTOCOL),
    "protocol 1": (b"\x80\x01].", 0, BAD_PROTOCOL),
    "protocol 6": (b"\x80\x06].", 0, BAD_PROTOCOL),
    "PROTO twice": (HEAD + HEAD + b"].", 2, BAD_PROTOCOL),
    "PROTO later": (HEAD + b"]" + HEAD + b".", 3, BAD_PROTOCOL),
    "REDUCE": (HEAD + b"]" + CLASS + b")R", 47, BAD_OPCODE),
    **{f"opcode {code:#x}": (HEAD + bytes([code]) + bytes(300), 2, BAD_OPCODE) for code in range(256)
       if bytes([code]) not in b"]})(NcbsuaeKMJXhjqr.G" and code not in (0x80, 0x81, 0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x8D, 0x93, 0x94, 0x95)},
    "STACK_GLOBAL of another module": (HEAD + text(b"supervisely.api.image_apj") + text(b"BlobImageInfo") + b"\x93", 44, BAD_CLASS),
    "STACK_GLOBAL of another class": (HEAD + text(b"supervisely.api.image_api") + text(b"BlobImageInfp") + b"\x93", 44, BAD_CLASS),
    "STACK_GLOBAL of a longer class": (HEAD + text(b"supervisely.api.image_api") + text(b"BlobImageInfos") + b"\x93", 45, BAD_CLASS),
    "STACK_GLOBAL of a shorter class": (HEAD + text(b"supervisely.api.image_api") + text(b"BlobImageInf") + b"\x93", 43, BAD_CLASS),
    "STACK_GLOBAL of one text": (HEAD + text(b"BlobImageInfo") + b"\x93", 17, BAD_STACK),
    "STACK_GLOBAL of nothing": (HEAD + b"\x93", 2, BAD_STACK),
    "STACK_GLOBAL of a number": (HEAD + text(b"supervisely.api.image_api") + b"K\x01\x93", 31, BAD_STACK),
    "STACK_GLOBAL in a number": (HEAD + b"K\x01" + text(b"BlobImageInfo") + b"\x93", 19, BAD_STACK),
    "GLOBAL of another class": (b"\x80\x02" + GLOBAL[:-1] + b"s\n", 2, BAD_CLASS),
    "GLOBAL of another module": (b"\x80\x02cos\nsystem\n", 2, BAD_CLASS),
    "GLOBAL that is cut": (b"\x80\x02" + GLOBAL[:-1], 2, CUT),
    "GLOBAL that is cut and another one": (b"\x80\x02" + GLOBAL[:-2] + b"x", 2, BAD_CLASS),
    "NEWOBJ of nothing": (HEAD + b"\x81", 2, BAD_STACK),
    "NEWOBJ of a class alone": (HEAD + CLASS + b"\x81", 45, BAD_STACK),
    "NEWOBJ of a tuple alone": (HEAD + b")\x81", 3, BAD_STACK),
    "NEWOBJ of a list": (HEAD + b"])\x81", 4, BAD_STACK),
    "NEWOBJ with a number": (HEAD + CLASS + b"K\x01\x81", 47, BAD_STACK),
    "BUILD of nothing": (HEAD + b"b", 2, BAD_STACK),
    "BUILD of a dict alone": (HEAD + b"}b", 3, BAD_STACK),
    "BUILD of a row alone": (HEAD + CLASS + b")\x81b", 47, BAD_STACK),
    "BUILD of a row with a number": (HEAD + CLASS + b")\x81K\x01b", 49, BAD_STACK),
    "BUILD of a dict with a dict": (HEAD + b"}}b", 4, BAD_STACK),
    "a row without state": (pickle_of(CLASS + b")\x81"), -2, BAD_ROW),
    "SETITEM of nothing": (HEAD + b"s", 2, BAD_STACK),
    "SETITEM of a dict and a key": (HEAD + b"}" + NAME + b"s", 9, BAD_STACK),
    "SETITEM into a list": (HEAD + b"]" + NAME + text(b"a") + b"s", 12, BAD_STACK),
    "SETITEMS of half a pair": (HEAD + b"}(" + NAME + b"u", 10, BAD_STACK),
    "SETITEMS without a mark": (HEAD + b"}" + NAME + text(b"a") + b"u", 12, BAD_STACK),
    "SETITEMS with nothing below the mark": (HEAD + b"(" + NAME + text(b"a") + b"u", 12, BAD_STACK),
    "SETITEMS into a list": (HEAD + b"](" + NAME + text(b"a") + b"u", 13, BAD_STACK),
    "a key that is a number": (HEAD + b"}(K\x01K\x01u", 8, BAD_ROW),
    "a key that is None": (HEAD + b"}(NK\x01u", 7, BAD_ROW),
    **{f"a field that is {name}": (HEAD + b"}" + text(b"other") + value + b"s", 10 + len(value), BAD_ROW)
       for name, value in {"a list": b"]", "a tuple": b")", "a class": CLASS, "a row": CLASS + b")\x81", "a dict": b"}"}.items()},
    **{f"a name that is {name}": (HEAD + b"}" + key + value + b"s", 3 + len(key) + len(value), BAD_ROW)
       for key in (NAME, text(b"title")) for name, value in {f"{key[2:]} and None": b"N", f"{key[2:]} and a number": b"K\x01", f"{key[2:]} and a list": b"]"}.items()},
    **{f"{key[2:]} that is {name}": (HEAD + b"}" + key + value + b"s", 3 + len(key) + len(value), BAD_ROW)
       for key in (START, END, text(b"offsetStart"), text(b"offsetEnd")) for name, value in {"None": b"N", "a text": text(b"1"), "a list": b"]"}.items()},
    **{f"a sourceBlob that is {name}": (HEAD + b"}" + text(b"sourceBlob") + value + b"s", 15 + len(value), BAD_ROW)
       for name, value in {"None": b"N", "a text": text(b"a"), "a row": CLASS + b")\x81", "a list": b"]"}.items()},
    "no name": (pickle_of(fields().replace(b"name", b"nome")), -2, BAD_ROW),
    "no start": (pickle_of(fields().replace(b"offset_start", b"offset_stars")), -2, BAD_ROW),
    "no end": (pickle_of(fields().replace(b"offset_end", b"offset_ens")), -2, BAD_ROW),
    "a sourceBlob without a start": (pickle_of(b"}(" + text(b"title") + text(b"a") + text(b"sourceBlob") + b"}" + text(b"offsetEnd") + b"K\x03su"), -2, BAD_ROW),
    "a sourceBlob without an end": (pickle_of(b"}(" + text(b"title") + text(b"a") + text(b"sourceBlob") + b"}" + text(b"offsetStart") + b"K\x03su"), -2, BAD_ROW),
    "a dict in itself": (HEAD + b"]}\x94" + text(b"sourceBlob") + b"h\x00sa.", 20, BAD_ROW),
    "APPEND of nothing": (HEAD + b"a", 2, BAD_STACK),
    "APPEND to nothing": (HEAD + b"}a", -1, BAD_STACK),
    "APPEND to a dict": (HEAD + b"}" + ROW + b"a", -1, BAD_STACK),
    "APPEND to the second list": (HEAD + b"]]" + ROW + b"a", -1, BAD_STACK),
    "APPENDS without a mark": (HEAD + b"]e", 3, BAD_STACK),
    "APPENDS to nothing": (HEAD + b"(" + ROW + b"e", -1, BAD_STACK),
    "APPENDS to a dict": (HEAD + b"}(" + ROW + b"e", -1, BAD_STACK),
    "APPENDS to the second list": (HEAD + b"]](" + ROW + b"e", -1, BAD_STACK),
    "an offset before 0": (pickle_of(fields(start=b"J\xff\xff\xff\xff")), -2, BAD_RANGE),
    "an end before the start": (pickle_of(fields(start=b"K\x03")), -2, BAD_RANGE),
    "a memo beyond the last": (HEAD + b"]\x94h\x01", 4, BAD_MEMO),
    "a memo before any": (HEAD + b"]h\x00", 3, BAD_MEMO),
    "a long memo of no sign": (HEAD + b"]\x94j\xff\xff\xff\xff", 4, BAD_MEMO),
    "a gap in the memo": (HEAD + b"]\x94q\x02", 4, BAD_MEMO),
    "a PUT far away": (HEAD + b"]r\xff\xff\xff\xff", 3, BAD_MEMO),
    "a memo of nothing": (HEAD + b"\x94", 2, BAD_MEMO),
    "a memo of a mark": (HEAD + b"(\x94", 3, BAD_MEMO),
    "a number of nine bytes": (HEAD + b"\x8a\x09" + bytes(9), 2, BAD_NUMBER),
    "a long number of nine bytes": (HEAD + b"\x8b\x09\0\0\0" + bytes(9), 2, BAD_NUMBER),
    "a text of 2**32 + 1 bytes": (HEAD + b"\x8d" + struct.pack("<Q", (1 << 32) + 1), 2, BAD_NUMBER),
    "a text of 2**32 bytes": (HEAD + b"\x8d" + struct.pack("<Q", 1 << 32), 2, CUT),
    "a text of 2**63 bytes": (HEAD + b"\x8d" + struct.pack("<Q", 1 << 63), 2, BAD_NUMBER),
    "a result below another": (HEAD + b"]].", 4, BAD_RESULT),
    "a mark as a result": (HEAD + b"(.", 3, BAD_RESULT),
    "a dict as a result": (HEAD + b"}.", 3, BAD_RESULT),
    "no result": (HEAD + b".", 2, BAD_RESULT),
    "a list below a number": (HEAD + b"]K\x01.", 5, BAD_RESULT),
    "a text that is cut": (HEAD + b"]\x8c\x05abcd", 3, CUT),
    "a number that is cut": (HEAD + b"]\x8a\x05abcd", 3, CUT),
    "an argument that is cut": (HEAD + b"]J\x01\x02\x03", 3, CUT),
    "a text and nothing behind it": (HEAD + b"]" + text(b"abc"), 8, CUT),
    "a number and nothing behind it": (HEAD + b"]\x8a\x01a", 6, CUT),
    "a class and nothing behind it": (b"\x80\x02" + GLOBAL, 43, CUT),
    "a row that is built in no list": (HEAD + ROW + b".", -1, BAD_RESULT),
    "no STOP": (HEAD + b"]", 3, CUT),
    "no PROTO's argument": (b"\x80", 0, CUT),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_its_opcode(fault: str) -> None:
    assert_fault(*FAULTS[fault])


# Rows to bytes


def encode(rows: list[Row], first: int, last: int) -> bytes:
    names = b"".join(name.encode() for name, _, _ in rows)
    ends = [sum(len(name) for name, _, _ in rows[: i + 1]) for i in range(len(rows))]
    starts = [0, *ends[:-1]]
    columns = [
        array("q", column)
        for column in (starts, ends, [row[1] for row in rows], [row[2] for row in rows])
    ]
    return encode_batch(names, *columns, first, last)


def test_some_rows_are_written_as_if_they_were_all() -> None:
    rows = [(f"n{i}" * (i % 3), i, i + 300) for i in range(6)]
    for first in range(6):
        for last in range(first + 1, 7):
            data = encode(rows, first, last)
            assert data == encode(rows[first:last], 0, last - first)
            assert unpickled(data) == rows[first:last]


@pytest.mark.parametrize(
    ("first", "last"), [(-1, 1), (0, 0), (1, 1), (2, 1), (0, 4), (3, 4), (-2, -1)]
)
def test_rows_that_are_not_there_are_not_written(first: int, last: int) -> None:
    with pytest.raises(IndexError, match=f"rows {first}:{last} of 3"):
        encode([("a", 1, 2)] * 3, first, last)
