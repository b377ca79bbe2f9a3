"""The footer of an index: what is encoded comes back, and numbers that don't fit each other are refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, strategies as st

import blobpack
from blobpack.checksum import crc32c
from blobpack.columns import FACTS, OFFSET_MAX
from blobpack.errors import ChecksumError, FormatError
from blobpack.indexfile.footer import FOOTER_BYTES, INDEX_PAGE_BYTES, Footer
from blobpack.indexfile.identity import Identity
from blobpack.indexfile.pages import decode_directory_page, decode_guide
from blobpack.model import ScanReport

if TYPE_CHECKING:
    from pathlib import Path

SECTIONS_BYTES = 20 * INDEX_PAGE_BYTES
# an index of 1,025 members with each section, as large as it may be
FOOTER = Footer(
    region_bytes=SECTIONS_BYTES + FOOTER_BYTES,
    identity=None,
    row_count=1025,
    payload_bytes=5000,
    last_end=9000,
    block_count=2,
    directory=8 * INDEX_PAGE_BYTES,
    lookup=4 * INDEX_PAGE_BYTES,
    lookup_pages=3,
    lookup_seed=7,
    guide=9 * INDEX_PAGE_BYTES,
    guide_bytes=100,
    facts=frozenset({"crc32c"}),
    report=None,
)

U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)
I64 = st.integers(-(1 << 63), (1 << 63) - 1)
# longer ones are cut
versions = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=32)
footers = st.builds(
    Footer,
    region_bytes=U64,
    identity=st.none() | st.builds(Identity, U64, U32, U32, versions),
    row_count=U64,
    payload_bytes=U64,
    last_end=U64,
    block_count=U64,
    directory=U64,
    lookup=U64,
    lookup_pages=U32,
    lookup_seed=U32,
    guide=U64,
    guide_bytes=U64,
    facts=st.frozensets(st.sampled_from(list(FACTS))),
    report=st.none() | st.builds(ScanReport, *[I64] * 12),
    blobs=U64,
    blobs_bytes=U64,
)


@given(footers, U64)
@example(replace(FOOTER, blobs_bytes=1), 0)
def test_a_footer_comes_back_as_it_was_encoded(footer: Footer, stamp: int) -> None:
    packed = footer.encode(stamp)
    assert len(packed) == FOOTER_BYTES
    decoded = Footer.decode(packed, "x.idx", 0)
    assert decoded == footer
    assert decoded is not None
    assert decoded.packed == packed
    # 512 bytes would hide the numbers in logs
    assert "packed" not in repr(decoded)


def test_without_their_bits_the_archive_the_report_and_the_blobs_are_zeros() -> None:
    """So the same members have the same bytes, whoever writes them."""
    packed = FOOTER.encode()
    assert packed[116:120] == bytes(4)
    for start, end in ((16, 32), (120, 336), (344, 368)):
        assert packed[start:end] == bytes(end - start)


def test_a_stamp_changes_nothing_but_the_bytes() -> None:
    assert FOOTER.encode() == FOOTER.encode(0)
    assert FOOTER.encode(1) != FOOTER.encode(2)


def test_a_version_of_a_blob_is_cut_to_128_bytes() -> None:
    """A version that was cut equals none, so readers compare checksums."""
    for version, stored in (("e" * 128, "e" * 128), ("e" * 129, "e" * 128), ("é" * 70, "é" * 64)):
        packed = replace(FOOTER, identity=Identity(1, 2, 3, version)).encode()
        decoded = Footer.decode(packed, "x.idx", 0)
        assert decoded is not None
        assert decoded.identity == Identity(1, 2, 3, stored)
    packed = replace(FOOTER, identity=Identity(1, 2, 3, "e" + "é" * 64)).encode()
    decoded = Footer.decode(packed, "x.idx", 0)
    assert decoded is not None
    assert decoded.identity == Identity(1, 2, 3, "e" + "é" * 63 + "\ufffd")


def test_other_bytes_are_no_footer() -> None:
    packed = FOOTER.encode()
    for other in (b"", packed[1:], b"\0" + packed, packed[:-1] + b"x", packed[:-8] + b"x" * 8):
        assert Footer.decode(other, "x.idx", 0) is None


@pytest.mark.parametrize("at", [0, 3, 4, 7, 8, 100, 503])
def test_a_footer_that_is_damaged_is_refused(at: int) -> None:
    packed = bytearray(FOOTER.encode())
    packed[at] ^= 1
    with pytest.raises(
        ChecksumError, match=r"^x\.idx: .* footer at byte 77 does not match"
    ) as caught:
        Footer.decode(bytes(packed), "x.idx", 77)
    assert caught.value.offset == 77


def sealed(packed: bytearray) -> bytes:
    packed[:4] = crc32c(bytes(packed[4:])).to_bytes(4, "little")
    return bytes(packed)


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a_footer_of_another_version_is_refused(version: int) -> None:
    packed = bytearray(FOOTER.encode())
    struct.pack_into("<I", packed, 4, version)
    with pytest.raises(FormatError, match=f"at byte 77 is of version {version} ") as caught:
        Footer.decode(sealed(packed), "x.idx", 77)
    assert caught.value.offset == 77


def test_of_the_flags_only_the_lower_ones_may_be_unknown() -> None:
    """The upper ones change what the rest means; bit 16 goes with the blobs of a collection."""
    packed = bytearray(replace(FOOTER, blobs_bytes=5).encode())
    (flags,) = struct.unpack_from("<I", packed, 116)
    assert flags == 1 << 16
    for bit in range(3, 16):
        struct.pack_into("<I", packed, 116, flags | 1 << bit)
        assert Footer.decode(sealed(packed), "x.idx", 0) == replace(FOOTER, blobs_bytes=5)
    for unknown in (0, *(flags | 1 << bit for bit in range(17, 32))):
        struct.pack_into("<I", packed, 116, unknown)
        with pytest.raises(FormatError, match=f"at byte 77 has flags {unknown:#x}") as caught:
            Footer.decode(sealed(packed), "x.idx", 77)
        assert caught.value.offset == 77


FITTING = {
    "as it is": {},
    "the lookup fills it": {"lookup": SECTIONS_BYTES - 3 * INDEX_PAGE_BYTES},
    "the directory fills it": {"directory": SECTIONS_BYTES - INDEX_PAGE_BYTES},
    "the guide fills it": {"guide": SECTIONS_BYTES - 100},
    "the blobs fill it": {"blobs": 1, "blobs_bytes": SECTIONS_BYTES - 1},
    "the largest offset": {"last_end": OFFSET_MAX},
    "two full blocks": {"row_count": 2048},
    # 510 blocks and the end of the last one fill a page; 511 need a second one
    "a full page of the directory": {
        "region_bytes": 1 << 30,
        "directory": (1 << 30) - FOOTER_BYTES - INDEX_PAGE_BYTES,
        "block_count": 510,
        "row_count": 510 * 1024,
    },
    "two pages of the directory": {
        "region_bytes": 1 << 30,
        "directory": (1 << 30) - FOOTER_BYTES - 2 * INDEX_PAGE_BYTES,
        "block_count": 511,
        "row_count": 511 * 1024,
    },
    "a scan to the end of the last member": {"report": ScanReport(9216, 0)},
    "a scan far behind": {"report": ScanReport(1 << 40, 2)},
    "an end at the end of the archive": {
        "report": ScanReport(9216, 2),
        "identity": Identity(10_240, 0, 0),
    },
}
WRONG = {
    "a lookup": {"lookup": SECTIONS_BYTES - 3 * INDEX_PAGE_BYTES + 1},
    "a directory": {"directory": SECTIONS_BYTES - INDEX_PAGE_BYTES + 1},
    "a guide": {"guide": SECTIONS_BYTES - 99},
    "blobs": {"blobs": 1, "blobs_bytes": SECTIONS_BYTES},
    "an offset": {"last_end": OFFSET_MAX + 1},
    "too few blocks": {"row_count": 2049},
    "too many blocks": {"row_count": 1024},
    "a block without rows": {"row_count": 0},
    "a second page of the directory": {
        "region_bytes": 1 << 30,
        "directory": (1 << 30) - FOOTER_BYTES - INDEX_PAGE_BYTES,
        "block_count": 511,
        "row_count": 511 * 1024,
    },
    "a scan that ended before the last member": {"report": ScanReport(8999, 0)},
    "a scan that ended before the archive": {"report": ScanReport(-512, 0)},
    "a scan that ended inside of a block": {"report": ScanReport(9217, 0)},
    "a scan that ended in the last padding": {"report": ScanReport(9000, 0)},
    "three zero blocks": {"report": ScanReport(9216, 3)},
    "less than no zero block": {"report": ScanReport(9216, -1)},
    "an end behind the archive": {
        "report": ScanReport(9216, 2),
        "identity": Identity(10_239, 0, 0),
    },
    "an end behind all archives": {"report": ScanReport(((1 << 63) - 1) // 512 * 512, 2)},
}


@pytest.mark.parametrize("changed", FITTING.values(), ids=list(FITTING))
def test_numbers_that_fit(changed: dict[str, int]) -> None:
    replace(FOOTER, **changed).check_fits("x.idx", 77)


@pytest.mark.parametrize("changed", WRONG.values(), ids=list(WRONG))
def test_numbers_that_do_not_fit_each_other_are_refused(changed: dict[str, int]) -> None:
    with pytest.raises(FormatError, match=r"^x\.idx: the index at byte 77 is damaged") as caught:
        replace(FOOTER, **changed).check_fits("x.idx", 77)
    assert caught.value.offset == 77


@pytest.mark.parametrize("rows", [8192, 8193, 79_000])
def test_rows_take_bytes(rows: int) -> None:
    """Memory is allocated for them: a block takes 48 bytes, and one for each row but the first."""
    blocks = -(-rows // 1024)
    least = 48 * blocks + rows - blocks
    sections = {"lookup": 0, "lookup_pages": 0, "guide": 0, "guide_bytes": 0, "directory": 0}
    fitting = replace(FOOTER, region_bytes=least, row_count=rows, block_count=blocks, **sections)
    fitting.check_fits("x.idx", 0)
    with pytest.raises(FormatError):
        replace(fitting, region_bytes=least - 1).check_fits("x.idx", 0)


def guide_of(names: list[bytes]) -> bytes:
    ends = [sum(map(len, names[: i + 1])) for i in range(len(names))]
    body = struct.pack(f"<{len(names)}I", *ends) + b"".join(names)
    return crc32c(body).to_bytes(4, "little") + body


@pytest.mark.parametrize("names", [[], [b""], [b"a"], [b"a", b"", b"bc"]])
def test_a_guide_is_the_first_name_of_each_block(names: list[bytes]) -> None:
    packed = guide_of(names)
    assert decode_guide(packed, len(names), "x.idx", 0) == names
    for size in range(len(packed)):
        with pytest.raises(ChecksumError, match="its guide at byte 77") as caught:
            decode_guide(packed[:size], len(names), "x.idx", 77)
        assert caught.value.offset == 77


def test_a_guide_that_is_too_short_for_its_blocks_is_refused() -> None:
    packed = guide_of([b"", b""])
    assert decode_guide(packed, 2, "x.idx", 0) == [b"", b""]
    with pytest.raises(
        FormatError, match="at byte 77 has 12 bytes, too few for 3 blocks"
    ) as caught:
        decode_guide(packed, 3, "x.idx", 77)
    assert caught.value.offset == 77


@pytest.mark.parametrize("number", [0, 1, 5])
def test_a_page_of_the_directory_has_its_number(number: int) -> None:
    positions = tuple(range(0, 511 * 8, 8))
    body = struct.pack("<I511Q", (1 << 31) + number, *positions)
    packed = crc32c(body).to_bytes(4, "little") + body
    assert decode_directory_page(packed, number, "x.idx", 0) == positions
    damaged = packed[:-1] + b"\1"
    for page, other in ((packed, number + 1), (packed, number + 2), (damaged, number)):
        with pytest.raises(ChecksumError, match="a page of its directory at byte 77") as caught:
            decode_directory_page(page, other, "x.idx", 77)
        assert caught.value.offset == 77


@pytest.mark.parametrize("end", [-512, 0, 1024])
def test_an_append_never_writes_over_members_that_are_behind_the_end_of_the_scan(
    end: int, tmp_path: Path
) -> None:
    """The payload is zeros, which look like the end of the archive."""
    blob = tmp_path / "o.tar"
    blobpack.pack([("a", bytes(9000))], blob, all_files=True, index="sidecar")
    beside, packed = tmp_path / "o.tar.idx", blob.read_bytes()
    footer = Footer.decode(beside.read_bytes()[-FOOTER_BYTES:], "o.tar.idx", 0)
    assert footer is not None
    assert footer.report is not None
    lying = replace(footer, report=replace(footer.report, bytes_scanned=end))
    beside.write_bytes(beside.read_bytes()[:-FOOTER_BYTES] + lying.encode())
    for use in (
        blobpack.open_blob,
        lambda path: blobpack.append(path, [("b", b"b")], all_files=True),
    ):
        with pytest.raises(FormatError, match=r"o\.tar\.idx: the index at byte 0 is damaged"):
            use(blob)
    assert blob.read_bytes() == packed
