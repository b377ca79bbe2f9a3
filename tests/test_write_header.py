"""Headers that are written, byte for byte: ustar where the name and size fit, and a pax header before it for what does not."""

from __future__ import annotations

import random

import pytest
from tars import BLOCK, END, GNU, extended, header, padding, pax_record, walk, walked_rows

from blobpack._native.gather import encode_header
from blobpack._native.scan import index_header, index_size_in

LARGEST_OCTAL = 8**11 - 1


def parted(name: bytes) -> tuple[bytes, bytes] | None:
    """Return prefix and name as ustar has them; None if the name does not fit."""
    if not name.isascii():
        return None
    if len(name) <= 100:
        return b"", name
    for at in range(1, len(name) - 1):
        if name[at : at + 1] == b"/" and at <= 155 and len(name) - at - 1 <= 100:
            return name[:at], name[at + 1 :]
    return None


def is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def expected_header(name: bytes, size: int, mtime: int) -> bytes:
    """Make the header as POSIX describes it."""
    records = b""
    fits = parted(name)
    if fits is None:
        if not is_utf8(name):
            records += pax_record("hdrcharset", b"BINARY")
        records += pax_record("path", name)
        fits = b"", bytes(byte if byte < 128 else ord("?") for byte in name[:100])
    if size > LARGEST_OCTAL:
        records += pax_record("size", str(size))
    said = size if size <= LARGEST_OCTAL else 0
    time = b"%011o" % min(max(mtime, 0), LARGEST_OCTAL)
    block = header(fits[1], said, prefix=fits[0], put={136: time})
    if not records:
        return block
    return header(b"././@PaxHeader", len(records), b"x") + records + padding(len(records)) + block


LETTERS = [b"a", b"b", b"/", b"\x7f", b" "]
OTHERS = ["é".encode(), "日".encode(), "💥".encode(), b"\xc2\x80", b"\xef\xbf\xbf", b"\xed\x9f\xbf"]
NO_TEXT = [b"\x80", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"\xed\xb2\x80"]  # fmt: skip


def name_of(rng: random.Random) -> bytes:
    """Make a name of any form, often one that just fits, or just does not."""
    length = rng.choice(
        [1, 5, 99, 100, 101, 102, 155, 156, 200, 255, 256, 257, 258, 300, 980, 1030]
    )
    letters = LETTERS[: rng.choice([2, 3, 5])]
    parts = [rng.choice(letters) for _ in range(length)]
    for at in rng.sample(
        [0, 1, 99, 100, 101, 154, 155, 156, length - 101, length - 1, length - 2], 2
    ):
        if 0 <= at < length:
            parts[at] = b"/"
    odd = rng.random()
    if odd < 0.5:
        for _ in range(rng.choice([1, 1, 3])):
            parts[rng.randrange(length)] = rng.choice(OTHERS if odd < 0.3 else OTHERS + NO_TEXT)
    if rng.random() < 0.4:
        # another length by a few bytes: the digits of a record count themselves
        parts.append(b"n" * rng.randrange(12))
    return b"".join(parts)


@pytest.mark.parametrize("seed", range(4))
def test_a_header_is_as_posix_describes_it(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [
        0,
        1,
        511,
        512,
        8**11 - 1,
        8**11,
        8**11 + 1,
        10**10 - 1,
        10**10,
        1 << 40,
        (1 << 62) - 1,
    ]
    mtimes = [0, 1, 7, 8, 1_700_000_000, 8**11 - 1, 8**11, 1 << 62, -1, -(1 << 62)]
    for _ in range(300):
        name, size, mtime = name_of(rng), rng.choice(sizes), rng.choice(mtimes)
        made = encode_header(name, size, mtime)
        assert made == expected_header(name, size, mtime), (name, size, mtime)
        if size == 0:
            expected = name.decode("utf-8", "surrogateescape")
            assert walked_rows(walk(made + END).members) == [(expected, len(made), 0)]


@pytest.mark.parametrize("length", [*range(90, 108), *range(980, 1000), 9980, 9990])
def test_the_length_of_a_record_counts_its_own_digits(length: int) -> None:
    name = b"\xff" * length
    assert encode_header(name, 3, 0) == expected_header(name, 3, 0)


@pytest.mark.parametrize("slash", range(0, 257, 3))
def test_a_long_name_is_parted_where_both_parts_fit(slash: int) -> None:
    for length in (101, 200, 255, 256, 257):
        if slash < length:
            name = b"a" * slash + b"/" + b"b" * (length - slash - 1)
            assert encode_header(name, 3, 0) == expected_header(name, 3, 0), length


# The header of an index


@pytest.mark.parametrize("size", [0, 1, 4096, 8**11 - 1, 8**11, 1 << 40, (1 << 62) - 1])
def test_the_header_of_an_index_is_known_by_all_its_bytes(size: int) -> None:
    block = index_header(size)
    field = b"%011o\0" % size if size <= LARGEST_OCTAL else b"\x80" + size.to_bytes(11, "big")
    assert block == header(b".blobpack/index", size_field=field, put={265: b"blobpack"})
    assert index_size_in(block) == size
    for at in range(BLOCK):
        changed = bytearray(block)
        changed[at] ^= 1
        assert index_size_in(bytes(changed)) is None, at


@pytest.mark.parametrize(
    "other",
    [
        b"",
        index_header(5)[:511],
        index_header(5) + b"\0",
        bytes(BLOCK),
        header(b".blobpack/index", 5),
        header(b".blobpack/index", 5, put={265: b"blobpacker"}),
        header(b".blobpack/index", put={265: b"blobpack"}, size_field=b"\xff" * 12),
        header(b".blobpack/index", put={265: b"blobpack"}, size_field=b"x"),
        header(b".blobpack/index", 5, put={265: b"blobpack"}, magic=GNU),
        header(b".blobpack/index/", 5, put={265: b"blobpack"}),
        header(b".blobpack/inde", 5, put={265: b"blobpack"}),
        extended(b"L", b"x"),
    ],
)  # fmt: skip
def test_any_other_block_is_no_header_of_an_index(other: bytes) -> None:
    assert index_size_in(other) is None
