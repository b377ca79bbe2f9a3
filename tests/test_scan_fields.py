"""Each field of a tar's headers: what it may hold, what that means, and which error names the header it is in."""

from __future__ import annotations

import ctypes
import math
import os
from decimal import Decimal
from errno import EINTR
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st
from tars import (
    BLOCK,
    END,
    GNU,
    USTAR,
    V7,
    base256,
    extended,
    gnu_long,
    header,
    pax,
    pax_record,
    tarfile_rows,
    walk,
    walked_rows,
)

from blobpack import FormatError, StorageError, TruncatedError
from blobpack._native.scan import index_header, walk_headers
from blobpack.stores.memory import MemoryStore
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    from pathlib import Path

    Row = tuple[str, int, int]

EXTENDED_BYTES_MAX = 64 << 20
BAD_CHECKSUM = "no tar header here: its checksum is wrong"
BAD_PAX = "a pax header whose records are malformed"
BAD_SIZE = "a size that is not a number, or negative"
CUT_EXTENDED = "the blob ends inside an extended header"
CUT_HEADER = "the blob ends inside a header"
CUT_PADDING = "the blob ends inside a member's padding"
GLOBAL_SIZE = "a pax global header that sets sizes: tar readers disagree on it"
HUGE = f"extended headers of over {EXTENDED_BYTES_MAX} bytes"
NUL_IN_NAME = "a pax header with a NUL byte in a name"
ORPHAN = "an extended header with no member behind it"


def rows_of(blob: bytes) -> list[Row]:
    return walked_rows(walk(blob).members)


def rows_of_all(blob: bytes) -> list[Row]:
    """Rows of all archives that lie one behind the other."""
    return walked_rows(walk(blob, concatenated=True).members)


def size_said_by(field: bytes) -> int | None:
    """The number in a size field, as the error for a payload that is not there says it; None for no number."""
    messages = set()
    for behind in (b"0" * 12, b" " * 12):  # the time, which is no part of the size
        with pytest.raises(FormatError) as caught:
            walk(header(b"a", size_field=field, put={136: behind}))
        messages.add(str(caught.value))
    (message,) = messages
    if BAD_SIZE in message:
        assert message == f"blob: member 'a': {BAD_SIZE}, at byte 0"
        return None
    size = int(message.split("the payload of ")[1].split()[0])
    assert message == (
        f"blob: member 'a': the payload of {size} bytes from byte 512 runs past the blob's end at 512, at byte 0"
    )
    return size


SIZES = {
    b"00000000001\0": 1,
    b"77777777777\0": (1 << 33) - 1,
    b"777777777777": (1 << 36) - 1,
    b"400000000000": 1 << 35,
    b"00000000010 ": 8,
    b"         10\0": 8,
    b"         10 ": 8,
    b"          17": 15,
    b"1234567\0\0\0\0\0": 0o1234567,
    b"7           ": 7,
    b"7 \0 9       ": 7,
    b"7\x009         ": 7,
    b"7  9        ": None,
    b"7 \t         ": None,
    b"8           ": None,
    b"78          ": None,
    b"7/          ": None,
    b"/           ": None,
    b"-1          ": None,
    b"\t7          ": None,
    b"7          x": None,
    b"7x          ": None,
    b"0x1         ": None,
    base256(1): 1,
    base256(0x0123456789ABCDEF): 0x0123456789ABCDEF,
    base256((1 << 62) - 1): (1 << 62) - 1,
    base256(1 << 62): None,
    base256(1 << 63): None,
    base256(1 << 64): None,
    base256(1 << 80): None,
    b"\x81" + bytes(10) + b"\1": None,
    b"\xff" * 12: None,
    b"\xff" + bytes(11): None,
}


@pytest.mark.parametrize("field", SIZES, ids=repr)
def test_a_size_is_octal_digits_or_base_256(field: bytes) -> None:
    assert size_said_by(field) == SIZES[field]


@pytest.mark.parametrize(
    "field", [bytes(12), b" " * 12, b"0" * 12, b"   \0        ", base256(0)], ids=repr
)
def test_a_size_of_nothing(field: bytes) -> None:
    for behind in (b"0" * 12, b" " * 12, b"7" * 12):
        head = header(b"a", size_field=field, put={136: behind})
        assert rows_of(head + END) == [("a", 512, 0)]


# Times


def mtime_of(*headers: bytes) -> int:
    blob = b"".join(headers) + END
    found = walk_headers(
        -1, len(blob), "blob", lambda start, _end, _stride: blob[start:], with_mtime=True
    )
    (mtime,) = found.members.mtime
    return mtime


TIMES = {
    b"00000000001\0": 1,
    b"77777777777\0": (1 << 33) - 1,
    b"            ": 0,
    b"no time     ": 0,
    b"-1          ": 0,
    base256(1 << 40): 1 << 40,
    base256((1 << 62) - 1): (1 << 62) - 1,
    base256(1 << 62): 0,
    b"\xff" * 12: -1,
    b"\xff" * 11 + b"\xfe": -2,
    b"\xff" * 11 + b"\x00": -256,
    b"\xff" * 8 + (0x01020304).to_bytes(4, "big"): 0x01020304 - (1 << 32),
    b"\xff" * 4 + ((1 << 64) - (1 << 62)).to_bytes(8, "big"): -(1 << 62),
    b"\xff" * 4 + ((1 << 64) - (1 << 62) - 256).to_bytes(8, "big"): 0,
    b"\xff" * 4 + (1 << 63).to_bytes(8, "big"): 0,
    b"\xff" * 3 + b"\xfe" + b"\xff" * 8: 0,
    b"\xff" + bytes(11): 0,
}


@pytest.mark.parametrize("field", TIMES, ids=repr)
def test_a_time_is_a_number_that_may_be_negative_or_it_is_0(field: bytes) -> None:
    assert mtime_of(header(b"a", put={136: field})) == TIMES[field]


@pytest.mark.parametrize(
    "time",
    ["0", "1", "-1", "1.5", "-1.5", "-1.25", "-1.0", "-1.00", "1.000", "-0.5", "-0.000000001", "-7.0000000010",
     "1234567890.987654321", "1.", "-1.", "0.9", "-2.09", "-2.90"],
)  # fmt: skip
def test_a_pax_time_is_rounded_down(time: str) -> None:
    assert mtime_of(pax({"mtime": time}), header(b"a", put={136: b"7"})) == math.floor(
        Decimal(time)
    )


@pytest.mark.parametrize(
    "time", ["", "-", ".", ".5", "-.5", "+1", " 1", "1 ", "1.5x", "1.x5", "1x.5", "x", "1e5", "1.5.5", "--1", "1.-5", "1,5", "9" * 30, "1./", "1.:", "/", ":", "1:", "/1"]
)  # fmt: skip
def test_a_pax_time_that_is_no_number_leaves_the_headers(time: str) -> None:
    assert mtime_of(pax({"mtime": time}), header(b"a", put={136: b"7"})) == 7


def test_a_time_is_of_its_own_member() -> None:
    blob = (
        pax({"mtime": "5"})
        + header(b"a")
        + header(b"b", put={136: b"7"})
        + pax({"mtime": "6", "path": "c"})
        + header(b"x")
        + END
    )
    read = lambda start, _end, _stride: blob[start:]  # noqa: E731
    found = walk_headers(-1, len(blob), "blob", read, with_mtime=True)
    assert list(found.members.mtime) == [5, 7, 6]
    assert walk_headers(-1, len(blob), "blob", read).members.mtime is None
    twice = pax({"mtime": "5"}) + pax({"comment": "c"})
    assert mtime_of(twice, header(b"a", put={136: b"7"})) == 7


# Checksums


def with_sum(block: bytes, field: bytes) -> bytes:
    return block[:148] + field.ljust(8, b"\0") + block[156:]


@pytest.mark.parametrize("name", [b"a", b"\xff\xfe\x80", b"\x80" * 99], ids=repr)
@pytest.mark.parametrize(
    "form", [b"%06o\0 ", b"%07o\0", b"%06o \0", b"%6o\0 ", b"  %o \0", b"%o", b"%08o"]
)
def test_a_checksum_is_the_sum_of_bytes_signed_or_not(form: bytes, name: bytes) -> None:
    block = header(name)
    blank = block[:148] + b" " * 8 + block[156:]
    high = 256 * sum(byte > 127 for byte in blank)
    for total in {sum(blank), sum(blank) - high}:
        if total >= 0:
            assert len(rows_of(with_sum(block, form % total) + END)) == 1
            for wrong in (total - 1, total + 1, total + 256, total + 512, total + 8 * 32):
                if wrong >= 0 and wrong not in {sum(blank), sum(blank) - high}:
                    assert_fault(with_sum(block, form % wrong) + END, 0, BAD_CHECKSUM)


@pytest.mark.parametrize("field", [b"8", b"\x80", b"-1", b"x", b"1 2", b"\xff" * 8], ids=repr)
def test_a_checksum_that_is_no_number_is_wrong(field: bytes) -> None:
    assert_fault(with_sum(header(b"a"), field) + END, 0, BAD_CHECKSUM)


@pytest.mark.parametrize("total", [-1, 0, 1])
def test_no_number_is_the_sum_of_signed_bytes_below_0(total: int) -> None:
    block = bytearray(with_sum(header(b"\x80" * 60), b"x" if total < 0 else b"%o" % total))
    signed = sum(byte - 256 * (byte > 127) for byte in block[:148] + b" " * 8 + block[156:])
    for at in range(60, 100):  # also up to a sum of -1, which stands for no number elsewhere
        step = max(min(total - signed, 127), -128)
        block[at] = step & 0xFF
        signed += step
    assert signed == total
    if total < 0:
        assert_fault(bytes(block) + END, 0, BAD_CHECKSUM)
    else:
        assert len(rows_of(bytes(block) + END)) == 1


# Names


FULL = b"n" * 100
NAMES = {
    "a name and no NUL": (header(FULL), "n" * 100),
    "a prefix": (header(b"a", prefix=b"dir"), "dir/a"),
    "a full prefix": (header(FULL, prefix=b"p" * 155), "p" * 155 + "/" + "n" * 100),
    "no prefix without a magic": (header(b"a", prefix=b"dir", magic=V7), "a"),
    "no prefix in GNU's": (header(b"a", prefix=b"dir", magic=GNU), "a"),
    "no prefix with another magic": (header(b"a", prefix=b"dir", magic=b"ustaX\x0000"), "a"),
    "a prefix of star": (header(b"a", prefix=b"p" * 131 + b"1234", put={508: b"tar\0"}), "p" * 131 + "/a"),
    "a prefix and almost star": (header(b"a", prefix=b"p" * 140, put={508: b"tar "}), "p" * 140 + "/a"),
    "pax": (pax({"path": "pax"}) + header(b"a", prefix=b"dir"), "pax"),
    "pax before GNU": (gnu_long(b"gnu") + pax({"path": "pax"}) + header(b"a"), "pax"),
    "pax before GNU behind it": (pax({"path": "pax"}) + gnu_long(b"gnu") + header(b"a"), "pax"),
    "GNU where pax says nothing": (pax({"path": ""}) + gnu_long(b"gnu") + header(b"a"), "gnu"),
    "GNU": (gnu_long(b"gnu") + header(b"a"), "gnu"),
    "an empty GNU": (gnu_long(b"") + header(b"a"), "a"),
    "GNU up to the first NUL": (gnu_long(b"gnu\0more") + header(b"a"), "gnu"),
    "GNU without a NUL": (extended(b"L", b"g" * 512) + header(b"a"), "g" * 512),
    "the last GNU": (gnu_long(b"one") + gnu_long(b"two") + header(b"a"), "two"),
    "an empty pax": (pax({"path": ""}) + header(b"a", prefix=b"dir"), "dir/a"),
    "the last record": (extended(b"x", pax_record("path", "one") + pax_record("path", "two")) + header(b"a"), "two"),
    "another key": (pax({"pathx": "1", "pat": "2", "Path": "3", "linkpath": "4"}) + header(b"a"), "a"),
    "a later pax header without it": (pax({"path": "pax"}) + pax({"comment": "c"}) + header(b"a"), "a"),
    "Solaris": (pax({"path": "sun"}, b"X") + header(b"a"), "sun"),
    "a value with = and newline": (pax({"path": "a=b\nc=d"}) + header(b"a"), "a=b\nc=d"),
    "global": (pax({"path": "all"}, b"g") + header(b"a", prefix=b"dir"), "all"),
    "global, and an own one": (pax({"path": "all"}, b"g") + pax({"path": "own"}) + header(b"a"), "own"),
    "global, and GNU": (pax({"path": "all"}, b"g") + gnu_long(b"gnu") + header(b"a"), "gnu"),
    "global, and an empty one": (pax({"path": "all"}, b"g") + pax({"path": ""}) + header(b"a"), "a"),
    "global, taken back": (pax({"path": "all"}, b"g") + pax({"path": ""}, b"g") + header(b"a"), "a"),
    "global, and another global": (pax({"path": "all"}, b"g") + pax({"linkpath": "x"}, b"g") + header(b"a"), "all"),
    "global, and a comment": (pax({"path": "all"}, b"g") + pax({"comment": "x"}, b"g") + header(b"a"), "all"),
    "global, twice": (pax({"path": "all"}, b"g") + pax({"path": "a" * 300}, b"g") + header(b"a"), "a" * 300),
    "global, between": (pax({"path": "own"}) + pax({"path": "all"}, b"g") + header(b"a"), "own"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_one_that_rules(name: str) -> None:
    headers, expected = NAMES[name]
    assert rows_of(headers + END) == [(expected, len(headers), 0)]


LINKS = {
    "header": (b"", b"one", "one"),
    "a full field": (b"", b"t" * 100, "t" * 100),
    "pax": (pax({"linkpath": "two"}), b"one", "two"),
    "GNU": (gnu_long(b"two", b"K"), b"one", "two"),
    "pax before GNU": (pax({"linkpath": "two"}) + gnu_long(b"one", b"K"), b"no", "two"),
    "GNU where pax says nothing": (pax({"linkpath": ""}) + gnu_long(b"two", b"K"), b"one", "two"),
    "an empty pax": (pax({"linkpath": ""}), b"one", "one"),
    "an empty GNU": (gnu_long(b"", b"K"), b"one", "one"),
    "global": (pax({"linkpath": "two"}, b"g"), b"one", "two"),
    "global, and an empty one": (
        pax({"linkpath": "two"}, b"g") + pax({"linkpath": ""}),
        b"one",
        "one",
    ),
    "global, and GNU": (pax({"linkpath": "one"}, b"g") + gnu_long(b"two", b"K"), b"no", "two"),
    "global, taken back": (
        pax({"linkpath": "two"}, b"g") + pax({"linkpath": ""}, b"g"),
        b"one",
        "one",
    ),
    "global path": (pax({"path": "two"}, b"g") + pax({"path": "link"}), b"one", "one"),
    "GNU's name": (gnu_long(b"two", b"L"), b"one", "one"),
    "./": (b"", b"./one", "one"),
    ".//": (b"", b"././one", "one"),
}


@pytest.mark.parametrize("link", LINKS)
def test_a_hard_link_has_the_payload_of_the_target_that_rules(link: str) -> None:
    between, field, target = LINKS[link]
    names = ["one", "two", "t" * 100, "no", "on", "onee", ".xone", "x/one"]
    files = b"".join(header(name.encode(), i + 1) + bytes(BLOCK) for i, name in enumerate(names))
    found = rows_of(files + between + header(b"link", 9, b"1", link=field) + END)
    place = names.index(target)
    assert [row[1:] for row in found[len(names) :]] == [(BLOCK + 1024 * place, place + 1)]


def test_links_to_many_names_each_find_their_own() -> None:
    names = [b"%d" % i for i in range(300)] + [b"./d/%d" % i for i in range(300)]
    files = b"".join(header(name, 1 + i % 9) + bytes(BLOCK) for i, name in enumerate(names))
    wanted = [i * 7 % 600 for i in range(600)]
    links = b"".join(header(b"link", 0, b"1", link=names[i]) for i in wanted)
    found = rows_of(
        files + links + header(b"gone", 0, b"1", link=b"nowhere") + header(b"last", 0) + END
    )
    assert [row[1:] for row in found[600:-1]] == [(BLOCK + 1024 * i, 1 + i % 9) for i in wanted]
    assert found[-1][0] == "last"
    result = walk(files + links + header(b"gone", 0, b"1", link=b"nowhere") + END)
    assert result.dangling_links == 1
    assert result.kinds.hard_links == 601


@pytest.mark.parametrize(
    ("target", "member", "found"),
    [
        (b"./a", b"a", True),
        (b"a", b"./a", True),
        (b"./", b"", False),
        (b"", b"./", False),
        (b".a", b"a", False),
        (b"x/a", b"a", False),
        (b".//a", b"a", False),
        (b".//a", b"/a", True),
    ],
)
def test_a_target_may_have_a_dot_and_a_slash_before_it(
    target: bytes, member: bytes, found: bool
) -> None:
    blob = header(member, 3) + bytes(BLOCK) + header(b"link", 0, b"1", link=target) + END
    assert [row[1:] for row in rows_of(blob)] == [(BLOCK, 3)] * (1 + found)
    assert walk(blob).dangling_links == 1 - found


def test_targets_longer_than_a_block_each_have_their_own_payload() -> None:
    """Also where a global header names another target of that length."""
    names = [b"a" * 5000, b"b" * 5000, b"c" * 5000]
    files = b"".join(
        pax({"path": name}) + header(b"x", 1 + i) + bytes(BLOCK) for i, name in enumerate(names)
    )
    links = b"".join(
        pax({"linkpath": name, "path": f"link{i}"}) + header(b"x", 0, b"1")
        for i, name in enumerate(names)
    )
    shared = pax({"path": "link3"}) + header(b"x", 0, b"1")
    found = rows_of(files + pax({"linkpath": names[1]}, b"g") + links + shared + END)
    assert [row[1:] for row in found[3:]] == [row[1:] for row in [*found[:3], found[1]]]


def test_a_dangling_link_takes_its_time_with_it() -> None:
    blob = b"".join(
        header(b"x", 0, flag, link=b"nowhere", put={136: b"%d" % time})
        for time, flag in enumerate([b"0", b"1", b"0", b"0", b"1", b"0"])
    )
    with_times = walk_headers(
        -1, len(blob), "blob", lambda start, _end, _stride: blob[start:], with_mtime=True
    )
    assert list(with_times.members.mtime) == [0, 2, 3, 5]


# Sizes


@pytest.mark.parametrize(
    ("records", "said", "size"),
    [
        ({"size": "0"}, 700, 0),
        ({"size": "00"}, 700, 0),
        ({"size": "5"}, 700, 5),
        ({"size": "700"}, 0, 700),
        ({"size": ""}, 700, 700),
        ({"comment": "size=5"}, 700, 700),
        ({"sizes": "5", "siz": "5"}, 700, 700),
    ],
    ids=str,
)
def test_a_pax_size_rules_over_the_headers_also_if_it_is_0(
    records: dict[str, str], said: int, size: int
) -> None:
    extension = pax(records)
    first = extension + header(b"a", said)
    blob = (
        first
        + b"x" * size
        + bytes(-size % BLOCK)
        + header(b"b", 3)
        + b"b".ljust(BLOCK, b"\0")
        + END
    )
    expected = [("a", len(first), size), ("b", len(blob) - 1024 - BLOCK, 3)]
    assert rows_of(blob) == expected
    if records != {"size": ""}:  # which tarfile takes for 0
        assert tarfile_rows(blob) == expected


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024, 1025])
def test_a_payload_is_followed_by_padding_up_to_a_block(size: int) -> None:
    whole = -(-size // BLOCK) * BLOCK
    blob = header(b"a", size) + b"x" * whole
    assert rows_of(blob) == [("a", 512, size)]
    if size:
        assert_fault(
            blob[: 512 + size - 1],
            0,
            f"member 'a': the payload of {size} bytes from byte 512 runs past the blob's end at {511 + size}",
        )
    if whole > size:
        for cut in {512 + size, 512 + whole - 1}:
            assert_fault(blob[:cut], 0, f"member 'a': {CUT_PADDING}")


DECIMALS = {
    str((1 << 62) // 10 * 10 - 1): None,
    "461168601842738790": 461168601842738790,
    "4611686018427387899": 4611686018427387899,
    "4611686018427387900": None,
    "9" * 19: None,
    "9" * 18: int("9" * 18),
    "/": None,
    ":": None,
    "1:": None,
    "1/": None,
}


@pytest.mark.parametrize("number", DECIMALS)
def test_a_pax_size_is_decimal_digits_below_2_to_the_62(number: str) -> None:
    size = DECIMALS[number]
    extension = pax({"size": number})
    with pytest.raises(FormatError) as caught:
        walk(extension + header(b"a"))
    if f"the payload of {number} bytes" in str(caught.value):
        assert size is None or size == int(number)
        assert int(number) < 1 << 62
    else:
        assert size is None
        assert str(caught.value) == f"blob: {BAD_SIZE}, at byte 0"


# Kinds

KINDS = {
    **{bytes([flag]): "other" for flag in range(256) if chr(flag) not in "xgXLK"},
    b"0": "files",
    b"\0": "files",
    b"7": "files",
    b"1": "hard_links",
    b"2": "symbolic_links",
    b"3": "devices",
    b"4": "devices",
    b"5": "folders",
    b"6": "devices",
    b"S": "sparse",
}


@pytest.mark.parametrize("magic", [USTAR, GNU, V7])
def test_each_typeflag_is_of_one_kind_with_data_or_without(magic: bytes) -> None:
    for flag, kind in KINDS.items():
        has_data = kind in ("files", "other", "sparse")
        blob = (
            header(b"a", 512, flag, magic=magic) + b"x" * BLOCK * has_data + header(b"b", 0) + END
        )
        found = walk(blob)
        kinds = found.kinds._asdict()
        kinds["files"] -= 1
        assert {name for name, count in kinds.items() if count} == {kind}, flag
        assert kinds[kind] == 1
        rows = walked_rows(found.members)
        assert rows == [("a", 512, 512)] * (kind == "files") + [("b", len(blob) - 1024, 0)]


@pytest.mark.parametrize(
    ("name", "flag", "kind"),
    [(b"a/", b"\0", "folders"), (b"/", b"\0", "folders"), (b"a/", b"0", "files"), (b"a/b", b"\0", "files"), (b"", b"\0", "files")],
)  # fmt: skip
def test_a_name_that_ends_with_a_slash_is_a_folder_of_v7(
    name: bytes, flag: bytes, kind: str
) -> None:
    found = walk(header(name, 0, flag, magic=V7) + END).kinds._asdict()
    assert {key for key, count in found.items() if count} == {kind}


SPARSE = {
    "GNU.sparse.major": "sparse",
    "GNU.sparse.x": "sparse",
    "GNU.sparse.": "files",
    "GNU.sparse": "files",
    "GNU.sparsey.x": "files",
    "SCHILY.realsize": "sparse",
    "SCHILY.realsizes": "files",
    "SCHILY.realsiz": "files",
}


@pytest.mark.parametrize("key", SPARSE)
def test_a_pax_header_of_a_sparse_file(key: str) -> None:
    found = walk(pax({key: "1"}) + header(b"a") + header(b"b") + END).kinds
    assert (found.sparse, found.files) == ((1, 1) if SPARSE[key] == "sparse" else (0, 2))
    # a later header of the member replaces it
    assert walk(pax({key: "1"}) + pax({"comment": "c"}) + header(b"a") + END).kinds.files == 1


@pytest.mark.parametrize("blocks", [0, 1, 2, 5])
@pytest.mark.parametrize("star", [False, True])
def test_a_sparse_map_goes_on_in_blocks_behind_the_header(blocks: int, star: bool) -> None:
    flags = {355: b"\1", 508: b"tar\0"} if star else {482: b"\1"}
    head = header(b"s", 1024, b"S", magic=USTAR if star else GNU, put=flags if blocks else {})
    more = [b"m" * 504 + (b"\1" if i < blocks - 1 else b"\0") + b"m" * 7 for i in range(blocks)]
    blob = head + b"".join(more) + b"d" * 1024 + header(b"b", 0) + END
    assert rows_of(blob) == [("b", len(blob) - 1024, 0)]
    assert walk(blob).kinds.sparse == 1
    # the map may be all that there is
    alone = header(b"s", 0, b"S", magic=USTAR if star else GNU, put=flags if blocks else {})
    found = walk(alone + b"".join(more))
    assert (found.kinds.sparse, found.position) == (1, 512 * (1 + blocks))
    if blocks:
        for cut in (512, 513, 512 * blocks, 512 * blocks + 511):
            assert_fault(blob[:cut], 0, CUT_HEADER)


# pax records


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["path", "linkpath", "comment", "a" * 90, "é", "x y"]),
            st.text(
                st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
                min_size=1,
                max_size=120,
            ),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 3),
)
def test_records_are_read_as_tarfile_reads_them(records: list[tuple[str, str]], zeros: int) -> None:
    body = b"".join(pax_record(key, value) for key, value in records) + bytes(zeros)
    blob = extended(b"x", body, name=b"x") + header(b"a", 3) + b"abc".ljust(BLOCK, b"\0") + END
    last = dict(records).get("path", "a")
    assert rows_of(blob) == [(last, len(blob) - 3 * BLOCK, 3)]
    if not last.endswith("/") and not last.startswith("/"):
        assert tarfile_rows(blob) == rows_of(blob)


RECORDS = {
    b"9 path=bb": BAD_PAX,
    b"10 path=bb\n": BAD_PAX,
    b"12 path=bb\n": BAD_PAX,
    b"9 path=bb\n": BAD_PAX,
    b"5 a=\n": None,
    b"4 =\n": None,
    b"4 a\n": BAD_PAX,
    b"4 a\n5 =b\n": BAD_PAX,
    b"3 \n": BAD_PAX,
    b"2 ": BAD_PAX,
    b"0 a=b\n": BAD_PAX,
    b" 6 a=b\n": BAD_PAX,
    b"6\ta=b\n": BAD_PAX,
    b"6 a=b ": BAD_PAX,
    b"6 a=b\n": None,
    b"06 a=b\n": BAD_PAX,
    b"07 a=b\n": None,
    b"0000000010 a=b\n": BAD_PAX,
    b"0000000015 a=b\n": None,
    b"00000000016 a=b\n": BAD_PAX,
    b"6 a=b\n7 ab=\n": BAD_PAX,
    b"6 a=b\n6 ab=\n": None,
    b"6 ab=\n\0\0": None,
    b"6 ab=\n\0x": BAD_PAX,
    b"6 ab=\n\0" + b"\0" * 300 + b"1": BAD_PAX,
    b"6 ab=\nx": BAD_PAX,
    b"/ ab=\n": BAD_PAX,
    b": ab=\n": BAD_PAX,
    b"": None,
    b"\0": None,
    b"9 path=\0\n": NUL_IN_NAME,
    b"12 path=a\0b\n": NUL_IN_NAME,
    b"14 linkpath=\0\n": NUL_IN_NAME,
    b"8 abc=\0\n": None,
    b"11 size=-1\n": BAD_SIZE,
    b"9 size=x\n": BAD_SIZE,
}


@pytest.mark.parametrize("body", RECORDS, ids=repr)
@pytest.mark.parametrize("flag", [b"x", b"X", b"g"])
def test_a_record_is_whole_or_its_header_is_refused(flag: bytes, body: bytes) -> None:
    before = header(b"before")
    # what stands behind the body must not be read as part of it
    extension = header(b"x", len(body), flag) + body.ljust(-(-len(body) // BLOCK) * BLOCK, b"\n")
    blob = before + extension + header(b"a") + END
    message = RECORDS[body]
    if message is None:
        assert rows_of(blob) == [("before", 512, 0), ("a", len(blob) - 1024, 0)]
    else:
        assert_fault(blob, 512, message)


# Faults, each with its header


def assert_fault(blob: bytes, offset: int, message: str, *, name: str = "blob") -> None:
    """Check the fault of a tar, alone and behind a member; a file's is that of a store."""
    for before in (b"", header(b"before", 5) + bytes(BLOCK)):
        if before and " from byte " in message:
            continue
        whole = before + blob
        with pytest.raises(FormatError) as caught:
            walk(whole)
        cut = any(text in message for text in ("the blob ends", "runs past"))
        assert (type(caught.value) is TruncatedError) == cut
        assert caught.value.offset == len(before) + offset
        assert str(caught.value) == f"{name}: {message}, at byte {len(before) + offset}"


LONG = gnu_long(b"x" * 600)
FAULTS = {
    "half a header": (header(b"a")[:511], 0, CUT_HEADER),
    "a byte of a header": (header(b"a") + b"a", 512, CUT_HEADER),
    "an extended header and nothing": (LONG, len(LONG), CUT_HEADER),
    "an extended header and a zero block": (LONG + END, len(LONG), ORPHAN),
    "an extended header that is cut": (LONG[:1100], 0, CUT_EXTENDED),
    "an extended header whose padding is cut": (LONG[:-1], 0, CUT_EXTENDED),
    "an extended header of no size": (header(b"x", typeflag=b"x", size_field=b"x"), 0, BAD_SIZE),
    "another one behind the first": (LONG + header(b"x", typeflag=b"L", size_field=b"x"), len(LONG), BAD_SIZE),
    "a global header and half a header": (pax({"comment": "c"}, b"g") + b"x", 1024, CUT_HEADER),
    "a member of no size": (header(b"a", size_field=b"x"), 0, f"member 'a': {BAD_SIZE}"),
    "a member of no size behind its pax header": (pax({"path": "é"}) + header(b"a", size_field=b"x"), 1024, f"member 'é': {BAD_SIZE}"),
    "a member of no name": (header(b"", size_field=b"x"), 0, BAD_SIZE),
    "a name that is no text": (header(b"\xff", size_field=b"x"), 0, f"member {chr(0xDCFF)!r}: {BAD_SIZE}"),
    "a global size": (pax({"size": "5"}, b"g") + header(b"a"), 0, GLOBAL_SIZE),
    "a global size of nothing": (pax({"size": ""}, b"g") + header(b"a"), 0, GLOBAL_SIZE),
    "a global sparse file": (pax({"GNU.sparse.major": "1"}, b"g") + header(b"a"), 0, GLOBAL_SIZE),
    "a wrong checksum": (header(b"a")[:-1] + b"x", 0, BAD_CHECKSUM),
    "a wrong checksum behind its extended header": (LONG + header(b"a")[:-1] + b"x", len(LONG), BAD_CHECKSUM),
    "almost a zero block": (bytes(511) + b"\1" + END, 0, BAD_CHECKSUM),
    "almost a zero block, first": (b"\1" + bytes(511) + END, 0, BAD_CHECKSUM),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_its_header(fault: str) -> None:
    assert_fault(*FAULTS[fault])


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("flag", [b"x", b"L", b"g"])
def test_one_extended_header_may_have_so_many_bytes_and_no_more(
    flag: bytes, over: int, tmp_path: Path
) -> None:
    size = EXTENDED_BYTES_MAX + over
    with (tmp_path / "a.tar").open(
        "wb"
    ) as file:  # zeros are records of nothing, and names of nothing
        file.write(header(b"x", size, flag))
        file.seek(-(-size // BLOCK) * BLOCK, 1)
        file.write(header(b"a", 3) + b"abc".ljust(BLOCK, b"\0") + END)
    check_limit(tmp_path / "a.tar", 0, refused=bool(over))


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("flags", [b"LL", b"xL", b"KK"])
def test_all_extended_headers_of_a_member_may_have_so_many_bytes(
    flags: bytes, over: int, tmp_path: Path
) -> None:
    """Each of them alone would be small enough: it is their sum that is kept in memory."""
    first = 60 << 20
    size = EXTENDED_BYTES_MAX - first - BLOCK + over
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(header(b"x", first, flags[:1]))
        file.seek(first, 1)
        file.write(header(b"x", size, flags[1:]))
        file.seek(-(-size // BLOCK) * BLOCK, 1)
        file.write(header(b"a", 3) + b"abc".ljust(BLOCK, b"\0") + END)
    check_limit(tmp_path / "a.tar", BLOCK + first, refused=bool(over))


def check_limit(path: Path, offset: int, *, refused: bool) -> None:
    with path.open("rb") as file:
        length = path.stat().st_size
        if not refused:
            assert walked_rows(walk_headers(file.fileno(), length, "blob").members) == [
                ("a", length - 3 * BLOCK, 3)
            ]
            return
        with pytest.raises(FormatError) as caught:
            walk_headers(file.fileno(), length, "blob")
    assert str(caught.value) == f"blob: {HUGE}, at byte {offset}"


# The end


@pytest.mark.parametrize("zeros", [0, 1, 2, 3, 40])
@pytest.mark.parametrize("rest", [0, 1, 511])
def test_the_end_is_the_first_zero_block(zeros: int, rest: int) -> None:
    blob = header(b"a", 3) + b"abc".ljust(BLOCK, b"\0")
    if rest and not zeros:
        return
    found = walk(blob + bytes(zeros * BLOCK + rest))
    assert (found.position, found.end_marker) == (1024, min(zeros, 2))
    if zeros == 1:
        assert walk(blob + bytes(BLOCK) + header(b"b")).end_marker == 1


def test_a_scan_says_where_the_last_archive_ends() -> None:
    one = header(b"a") + END
    for count in (1, 2, 5):
        index = scan_store(MemoryStore((one + bytes(BLOCK * 3)) * count), concatenated=True)
        assert list(index.names) == ["a"] * count
        assert index.report is not None
        assert index.report.bytes_scanned == (len(one) + 3 * BLOCK) * (count - 1) + BLOCK


def test_indexes_between_archives_are_passed_over_whatever_their_size() -> None:
    for size in (0, 1, 511, 512, 513, 5000):
        index = index_header(size) + b"i" * size + bytes(-size % BLOCK)
        blob = header(b"a") + END + index + header(b"b") + END
        found = walk(blob, concatenated=True)
        assert [name for name, *_ in walked_rows(found.members)] == ["a", "b"]
        assert [name for name, *_ in walked_rows(walk(blob).members)] == ["a"]
        assert [row[0] for row in rows_of_all(blob[: -3 * BLOCK])] == ["a"]
        assert [row[0] for row in rows_of_all(blob[: -2 * BLOCK])] == ["a", "b"]
        if size:
            with pytest.raises(TruncatedError, match="runs past the blob's end"):
                walk(blob[: 3 * BLOCK + BLOCK + size - 1], concatenated=True)


# Where the bytes come from


@pytest.mark.parametrize("missing", [1, 100, 511])
@pytest.mark.parametrize("concatenated", [False, True])
def test_a_source_that_brings_too_little_has_become_shorter(
    missing: int, concatenated: bool
) -> None:
    """Each read but the first brings too little once: of headers, of an end marker, and behind it."""
    one = header(b"a") + header(b"b") + END + bytes(3 * BLOCK)
    blob = one + index_header(700) + bytes(1024) + one
    ends: list[int] = []
    short = -1

    def read(start: int, end: int, _stride: int) -> bytes:
        ends.append(end)
        return blob[start : end - missing * (len(ends) == short)]

    walk_headers(-1, len(blob), "blob", read, concatenated=concatenated)
    reads = ends.copy()
    assert reads[-1] == (len(blob) if concatenated else 3072)
    for short in range(1, len(reads) + 1):
        ends.clear()
        with pytest.raises(TruncatedError) as caught:
            walk_headers(-1, len(blob), "blob", read, concatenated=concatenated)
        assert ends == reads[:short]
        assert caught.value.offset == ends[-1] - missing
        assert "the blob became shorter while it was scanned, at byte" in str(caught.value)


@pytest.mark.parametrize("more", [0, 2, 700, 1 << 20])
def test_a_source_may_bring_more_than_it_is_asked_for(more: int) -> None:
    one = header(b"a", 3) + b"abc".ljust(BLOCK, b"\0")
    for end, blocks in ((END, 2), (bytes(BLOCK + 2) + b"x" * 510, 1), (bytes(BLOCK), 1), (b"", 0)):
        blob = one + end

        def read(start: int, end: int, _stride: int, blob: bytes = blob) -> bytes:
            return (blob + header(b"b") * 3)[start : end + more]

        found = walk_headers(-1, len(blob), "blob", read)
        assert walked_rows(found.members) == [("a", 512, 3)]
        assert found.end_marker == blocks


def test_only_one_thread_walks_what_a_source_brings() -> None:
    blob = b"".join(header(b"%d" % i) for i in range(8000)) + END

    def read(start: int, end: int, _stride: int) -> bytes:
        return blob[start : end + (1 << 18)]

    found = walk_headers(-1, len(blob), "blob", read, threads=4)
    assert walked_rows(found.members) == rows_of(blob)


@pytest.mark.parametrize("errno", [0, EINTR])
def test_a_file_that_has_become_shorter_is_an_error(errno: int, tmp_path: Path) -> None:
    """Also if a call long ago was interrupted: a read of no bytes sets no errno."""
    blob = header(b"a") + header(b"b")
    (tmp_path / "a.tar").write_bytes(blob)
    libc = ctypes.CDLL(None)
    libc.__errno_location.restype = ctypes.POINTER(ctypes.c_int)
    with (tmp_path / "a.tar").open("rb") as file:
        libc.__errno_location()[0] = errno
        with pytest.raises(TruncatedError) as caught:
            walk_headers(file.fileno(), len(blob) + BLOCK, "blob")
    assert caught.value.offset == len(blob)


def test_a_file_that_cant_be_read_is_an_error_with_its_place(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(StorageError, match=r"^blob: can't read at byte 0: Is a directory$"):
            walk_headers(fd, 1024, "blob")
    finally:
        os.close(fd)


def test_the_descriptor_may_be_0(tmp_path: Path) -> None:
    blob = b"".join(header(b"%d" % i, 3) + b"abc".ljust(BLOCK, b"\0") for i in range(100)) + END
    (tmp_path / "a.tar").write_bytes(blob)
    kept = os.dup(0)
    fd = os.open(tmp_path / "a.tar", os.O_RDONLY)
    try:
        os.dup2(fd, 0)
        found = walk_headers(0, len(blob), "blob")
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(fd)
    assert walked_rows(found.members) == rows_of(blob)


def test_a_source_that_brings_too_little_of_a_sparse_map_names_no_member() -> None:
    """The name of the member lies in bytes that were given back when more were asked for."""
    head = header(b"s" * 90, 0, b"S", magic=GNU, put={482: b"\1"})
    blob = head + (bytes(504) + b"\1" + bytes(7)) * 3 + END
    with pytest.raises(TruncatedError) as caught:
        walk_headers(-1, len(blob), "x", lambda start, end, stride: blob[start : min(end, 1024)])
    assert str(caught.value) == "x: the blob became shorter while it was scanned, at byte 1024"


@pytest.mark.parametrize("place", [0, 147, 156, 157, 511])
def test_a_signed_sum_counts_each_byte_but_its_own_field(place: int) -> None:
    blob = header(b"a", put={place: b"\xff"}, signed=True) + END
    walk(blob)
    wrong = bytearray(blob)
    wrong[place] = 0xFE
    with pytest.raises(FormatError, match="its checksum is wrong"):
        walk(bytes(wrong))


def test_a_blob_that_ends_right_behind_an_extended_header_lacks_a_header() -> None:
    whole = pax({"comment": "c" * 499})
    assert len(whole) == 2 * BLOCK
    with pytest.raises(TruncatedError, match="the blob ends inside a header, at byte 1024"):
        walk(whole)
    with pytest.raises(TruncatedError, match="ends inside an extended header, at byte 0"):
        walk(whole[:-1])
