"""Any bytes are members, all within the blob, or a FormatError with its offset, and nothing else."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import zipfile
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings, strategies as st
from tars import (
    BLOCK,
    DIALECTS,
    END,
    GNU,
    Tar,
    base256,
    gnu_long,
    header,
    pax,
    tarfile_rows,
    walk,
    walked_rows,
    with_checksum,
)

from blobpack import FormatError, TruncatedError
from blobpack._native.scan import walk_headers
from blobpack.stores.memory import MemoryStore
from blobpack.tar.scan import scan, scan_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Row = tuple[str, int, int]

# what only grows the number of members adds nothing here
SMALL = sorted(
    name for name in DIALECTS if name not in ("odd_names", "without_payload", "concatenated")
)


def rows_or_fault(blob: bytes) -> list[Row] | FormatError:
    """Walk a blob, and check what holds of all of them."""
    try:
        found = walk(blob)
    except FormatError as exc:
        assert exc.offset is not None
        assert 0 <= exc.offset <= len(blob)
        assert exc.offset % BLOCK == 0
        assert str(exc).endswith(f"at byte {exc.offset}")
        return exc
    rows = walked_rows(found.members)
    for _, start, size in rows:
        assert BLOCK <= start <= start + size <= len(blob)
    assert 0 <= found.position <= len(blob)
    assert found.end_marker in (0, 1, 2)
    return rows


# Cut


@pytest.mark.parametrize("dialect", SMALL)
def test_cut_at_every_byte(dialect: str) -> None:
    """Between two members the blob is a tar with the members before; anywhere else it is truncated."""
    tar = DIALECTS[dialect]()
    whole = bytes(tar.blob)
    end = tar.borders[-1]
    for length in range(1, len(whole)):
        found = rows_or_fault(whole[:length])
        before = max(border for border in tar.borders if border <= length)
        if length in tar.borders or (length >= end + BLOCK):
            assert found == [
                row
                for row, row_end in zip(tar.rows, tar.row_ends, strict=True)
                if row_end <= length
            ]
        else:
            assert type(found) is TruncatedError
            assert found.offset is not None
            assert before <= found.offset <= length


@pytest.mark.parametrize("dialect", SMALL)
def test_a_cut_between_members_shows_in_the_report(dialect: str) -> None:
    tar = DIALECTS[dialect]()
    for border in tar.borders[1:]:
        report = scan_store(MemoryStore(bytes(tar.blob[:border]))).report
        assert report is not None
        assert report.end_marker == 0
        assert report.bytes_scanned == border


@pytest.mark.parametrize(
    ("zeros", "end_marker"), [(512, 1), (513, 1), (1023, 1), (1024, 2), (1500, 2)]
)
def test_a_cut_end_marker_shows_in_the_report(zeros: int, end_marker: int) -> None:
    report = scan_store(MemoryStore(bytes(Tar().file("a", b"1").blob) + bytes(zeros))).report
    assert report is not None
    assert report.end_marker == end_marker


def test_the_offset_of_a_cut_is_that_of_the_header_it_happens_behind() -> None:
    tar = Tar().file("first", b"1").file("second", b"2" * 700)
    with pytest.raises(TruncatedError, match="member 'second': the payload of 700 bytes") as caught:
        walk(bytes(tar.blob[: tar.rows[1][1] + 699]))
    assert caught.value.offset == tar.rows[1][1] - BLOCK
    with pytest.raises(
        TruncatedError, match="member 'second': the blob ends inside a member's padding"
    ):
        walk(bytes(tar.blob[:-1]))


@pytest.mark.parametrize("threads", [1, 4])
def test_a_file_cut_while_it_is_scanned_is_truncated(threads: int, tmp_path: Path) -> None:
    """The length was taken before: a read that ends too early is no end of archive."""
    path = tmp_path / "a.tar"
    tar = Tar()
    for i in range(3000):
        tar.file(f"{i}", bytes(1000))
    for length in (0, 512, 100_000, 1 << 20, 3_000_000, len(tar.blob) - 1):
        path.write_bytes(tar.blob[:length])
        with (
            path.open("rb") as file,
            pytest.raises(TruncatedError, match="became shorter") as caught,
        ):
            walk_headers(file.fileno(), len(tar.blob), "blob", threads=threads)
        assert caught.value.offset is not None
        assert caught.value.offset <= length


def test_a_store_that_gives_too_little_is_truncated() -> None:
    blob = bytes(DIALECTS["ustar"]().blob)
    with pytest.raises(TruncatedError, match="became shorter"):
        walk_headers(-1, len(blob), "blob", lambda start, end, _: blob[start : end - 1])


# Flipped


@pytest.mark.parametrize("dialect", SMALL)
def test_any_byte_of_a_header_flipped_is_refused_or_means_the_same(dialect: str) -> None:
    tar = DIALECTS[dialect]()
    whole = bytes(tar.blob)
    for start in tar.headers:
        for position in range(start, start + BLOCK):
            for flip in (0xFF, 0x01, 0x80):
                blob = bytearray(whole)
                blob[position] ^= flip
                found = rows_or_fault(bytes(blob))
                if isinstance(found, FormatError):
                    assert found.offset == start
                else:
                    assert 148 <= position - start < 156  # two spellings of one checksum
                    assert found == tar.rows


@pytest.mark.parametrize("dialect", SMALL)
def test_any_byte_flipped_under_a_right_checksum_is_refused_or_gives_rows_within(
    dialect: str,
) -> None:
    """The writer may lie as it likes: no offset leaves the blob, and rows are those of tarfile, if it reads it."""
    tar = DIALECTS[dialect]()
    whole = bytes(tar.blob)
    for start in tar.headers:
        for position in (*range(100), *range(124, 136), 156, *range(157, 180), *range(257, BLOCK)):
            blob = bytearray(whole)
            blob[start + position] ^= 0xFF if position % 2 else 0x01
            blob[start : start + BLOCK] = with_checksum(bytes(blob[start : start + BLOCK]))
            found = rows_or_fault(bytes(blob))
            if isinstance(found, list) and tar.judged and is_judged(whole[start:], position):
                assert found == tarfile_rows(blob), position


def is_judged(header: bytes, position: int) -> bool:
    """Return whether tarfile reads a byte of a header as blobpack does.

    It takes a prefix from headers that have none, reads GNU's long names up to the end of their block, and fails on
    sparse maps that are no numbers.
    """
    if 124 <= position < 136:
        return header[156:157] not in (b"L", b"K")
    return position < 257


@pytest.mark.parametrize("typeflag", range(256))
def test_every_typeflag_is_read_or_refused(typeflag: int) -> None:
    for magic in (b"ustar\x0000", GNU, bytes(8)):
        for size in (0, 5, 1024, 1025, 1 << 33):
            blob = header(b"a", size, bytes([typeflag]), magic=magic) + b"12 path=abcd\n".ljust(
                1024, b"\0"
            )
            rows_or_fault(blob + header(b"b", 0) + END)


SIZES = {
    b"-0000000001\0": "negative octal",
    b"\xff" * 12: "negative base-256",
    base256(1 << 63): "beyond 2**63",
    base256((1 << 63) - 1): "the last int64",
    base256((1 << 63) - 512): "overflows when padded",
    base256((1 << 62) + 1): "beyond 2**62",
    b"\x80" + b"\xff" * 11: "the largest base-256",
    b"77777777777\0": "8 GiB",
    b"777777777777": "64 GiB",
    b"0x000000010\0": "hexadecimal",
    b"00000000008\0": "no octal digit",
    b"0000 0000 1\0": "two numbers",
    b"\x81" + bytes(11): "base-256 of a kind nobody writes",
}


@pytest.mark.parametrize("field", SIZES, ids=SIZES.values())
@pytest.mark.parametrize("typeflag", [b"0", b"x", b"L", b"S", b"g", b"Z"])
def test_a_size_that_is_wrong_or_too_large_is_refused(field: bytes, typeflag: bytes) -> None:
    blob = bytes(Tar().file("before", b"1").blob)
    damaged = blob + header(b"a", typeflag=typeflag, size_field=field) + END
    found = rows_or_fault(damaged)
    assert isinstance(found, FormatError)
    assert found.offset == len(blob)


PAX_SIZES = [
    "-1",
    "+5",
    "1.5",
    " 5",
    "5 ",
    "0x5",
    "9" * 19,
    "9" * 400,
    str((1 << 63) - 1),
    str((1 << 63) - 512),
    "a",
]


@pytest.mark.parametrize("size", PAX_SIZES)
def test_a_pax_size_that_is_wrong_or_too_large_is_refused(size: str) -> None:
    assert isinstance(
        rows_or_fault(pax({"size": size}) + header(b"a", 5) + bytes(BLOCK) + END), FormatError
    )


def test_an_empty_pax_size_leaves_the_headers() -> None:
    assert rows_or_fault(pax({"size": ""}) + header(b"a", 5) + bytes(BLOCK) + END) == [
        ("a", 1536, 5)
    ]


MALFORMED = [
    b"x",
    b"0 path=a\n",
    b"9 path=a",
    b"11 path=a\n",
    b"8 path=a\n",
    b"9  path=a\n",
    b"9path=abc\n",
    b"-9 path=a\n",
    b"99999999999999999999 path=a\n",
    b"6 path\n",
    b"4 =\n",
    b"3 \n",
    b"9 path=a\n\0\0\0junk",
    b"\n",
    b"9 path=a\n9 path=b ",
]


@pytest.mark.parametrize("body", MALFORMED)
@pytest.mark.parametrize("typeflag", [b"x", b"g", b"X"])
def test_malformed_pax_records_are_refused(body: bytes, typeflag: bytes) -> None:
    """What they may have said of names and sizes is lost; only "=" with no key is a record like others."""
    extended = header(b"x", len(body), typeflag) + body.ljust(BLOCK, b"\0")
    found = rows_or_fault(extended + header(b"a", 0) + END)
    if body == b"4 =\n":
        assert found == [("a", 1536, 0)]
    else:
        assert isinstance(found, FormatError)
        assert found.offset == 0


@pytest.mark.parametrize("key", ["path", "linkpath"])
@pytest.mark.parametrize("typeflag", [b"x", b"g"])
def test_a_nul_in_a_name_is_refused(key: str, typeflag: bytes) -> None:
    found = rows_or_fault(pax({key: b"a\0b"}, typeflag) + header(b"a", 0) + END)
    assert isinstance(found, FormatError)
    assert "NUL" in str(found)


@pytest.mark.parametrize("extension", [pax({"path": "a"}), gnu_long(b"a"), gnu_long(b"a", b"K")])
def test_an_extended_header_with_no_member_behind_it_is_refused(extension: bytes) -> None:
    assert isinstance(rows_or_fault(extension + END), FormatError)
    assert type(rows_or_fault(extension)) is TruncatedError


def test_an_extended_header_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(header(b"x", 1 << 30, b"x"))
        file.truncate(1 << 31)
    with pytest.raises(FormatError, match="67108864 bytes") as caught:
        scan(path)
    assert caught.value.offset == 0


# Small, and other things than tars


@pytest.mark.parametrize("blob", [b"", b"\0", b"a" * 511, bytes(511), b"PK"])
def test_a_blob_too_small_for_a_header_is_truncated(blob: bytes) -> None:
    with pytest.raises(TruncatedError) as caught:
        scan_store(MemoryStore(blob))
    assert caught.value.offset == 0


@pytest.mark.parametrize("blocks", [1, 2, 20, 20_000])
def test_zeros_are_an_archive_of_nothing(blocks: int) -> None:
    index = scan_store(MemoryStore(bytes(blocks * BLOCK)))
    assert len(index) == 0
    assert index.report is not None
    assert index.report.end_marker == min(blocks, 2)


def zipped(tar: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.tar", tar)
    return file.getvalue()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda tar: zstandard.ZstdCompressor().compress(tar),
    "zip": zipped,
}


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("size", [1, 5000])
def test_compressed_data_is_refused_and_called_by_its_name(
    kind: str, size: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(
        COMPRESSORS[kind](bytes(Tar().file("a", random.Random(1).randbytes(size)).end().blob))
    )
    advice = "unzip" if kind == "zip" else "blobpack repack"
    with pytest.raises(FormatError, match=f"{kind}.* by its offsets.*{advice}") as caught:
        scan(path)
    assert caught.value.offset == 0


def test_other_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(random.Random(1).randbytes(10_000))
    with pytest.raises(FormatError, match="no tar header here") as caught:
        scan(path)
    assert caught.value.offset == 0


# Whatever comes

FIELDS = st.fixed_dictionaries(
    {
        "name": st.binary(max_size=100),
        "typeflag": st.sampled_from([bytes([flag]) for flag in b"01234567xgXLKSVMD\0A"]),
        "magic": st.sampled_from([b"ustar\x0000", GNU, bytes(8)]),
        "size_field": st.one_of(
            st.integers(0, 3000).map(lambda size: b"%011o\0" % size),
            st.integers(0, 1 << 70).map(base256),
            st.binary(min_size=12, max_size=12),
        ),
        "link": st.binary(max_size=100),
        "prefix": st.binary(max_size=155),
    }
)
HEADERS = FIELDS.map(lambda fields: header(**fields))
BLOCKS = st.one_of(
    HEADERS,
    HEADERS,
    st.just(bytes(BLOCK)),
    st.binary(max_size=BLOCK).map(lambda block: block.ljust(BLOCK, b"\0")),
    st.dictionaries(
        st.sampled_from(["path", "linkpath", "size", "GNU.sparse.size", "comment"]),
        st.one_of(st.binary(max_size=20), st.integers(0, 4000).map(lambda size: b"%d" % size)),
        max_size=3,
    ).map(pax),
    st.binary(max_size=600).map(gnu_long),
)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=3000))
def test_random_bytes(blob: bytes) -> None:
    rows_or_fault(blob)


@settings(max_examples=800, deadline=None)
@given(st.lists(BLOCKS, max_size=12), st.integers(0, 600))
def test_headers_spliced_at_random(blocks: list[bytes], cut: int) -> None:
    blob = b"".join(blocks)
    rows_or_fault(blob)
    rows_or_fault(blob[: len(blob) - cut])


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(SMALL),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=6),
    st.booleans(),
)
def test_mutations(dialect: str, changes: list[tuple[int, int]], repaired: bool) -> None:
    tar = DIALECTS[dialect]()
    blob = bytearray(tar.blob)
    for position, value in changes:
        blob[position % len(blob)] = value
    if repaired:
        for start in tar.headers:
            blob[start : start + BLOCK] = with_checksum(bytes(blob[start : start + BLOCK]))
    found = rows_or_fault(bytes(blob))
    if isinstance(found, FormatError):
        return
    stored = scan_store(MemoryStore(bytes(blob)))
    assert found == [(m.name, m.offset_start, m.offset_end - m.offset_start) for m in stored]
