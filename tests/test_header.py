"""Names that a member may have, and blocks that a tar may begin with."""

from __future__ import annotations

import io
import tarfile

import pytest

from blobpack.errors import UnsafeNameError
from blobpack.stores.memory import MemoryStore
from blobpack.tar.header import (
    END_OF_ARCHIVE,
    begins_tar,
    check_name,
    encode_name,
    member_header,
    padding,
    size_in,
)
from blobpack.tar.scan import scan_store


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"/",
        b"folder/",
        b"a/b/",
        b".",
        b"a/.",
        b"/etc/passwd",
        b"..",
        b"../a",
        b"a/../b",
        b"a/..",
        b"a\0",
        b"\0",
        b"a\0b",
    ],
)
def test_a_name_that_is_no_path_of_a_file_below_the_folder_is_refused(name: bytes) -> None:
    with pytest.raises(UnsafeNameError, match="can't be the name of a member"):
        check_name(name)


@pytest.mark.parametrize(
    "name",
    [b"a", b"a/b", b"./a", b"a//b", b"..a", b"a..", b"a/..b", b"a.", b".a", b"a/.b", b"\xff"],
)
def test_a_name_of_a_file_below_the_folder_is_accepted(name: bytes) -> None:
    check_name(name)


def test_bytes_that_are_not_utf_8_come_back_and_other_surrogates_are_refused() -> None:
    assert encode_name("grö\udcff") == "grö".encode() + b"\xff"
    with pytest.raises(UnsafeNameError, match="can't be encoded"):
        encode_name("a\ud800")


def headers(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


def with_sum(block: bytes, digits: bytes) -> bytes:
    return block[:148] + digits + block[156:]


def test_a_tar_begins_with_a_header_with_a_right_checksum_or_with_zeros() -> None:
    block = headers("a.txt", 5)
    assert begins_tar(block)
    assert begins_tar(bytes(512))
    for at in range(512):
        changed = bytearray(block)
        changed[at] ^= 1
        # what is spelled in another way is the same number
        if not 148 <= at < 156:
            assert not begins_tar(bytes(changed)), at
    right = sum(block[:148]) + sum(block[156:]) + 8 * 32
    assert begins_tar(with_sum(block, b"%06o\0 " % right))
    assert begins_tar(with_sum(block, b"%7o\0" % right))
    # a field that is left-aligned, and one that takes all eight bytes
    assert begins_tar(with_sum(block, (b"%o" % right).ljust(8, b"\0")))
    assert begins_tar(with_sum(block, b"%08o" % right))
    for wrong in (right - 1, right + 1, right - 256):
        assert not begins_tar(with_sum(block, b"%06o\0 " % wrong))


def test_less_than_a_block_begins_no_tar() -> None:
    block = headers("a.txt", 5)
    assert not any(begins_tar(block[:length]) for length in (0, 1, 257, 511))
    assert not begins_tar(bytes(511))


def test_checksums_of_signed_chars_are_right_too() -> None:
    block = headers("a.txt", 5)
    block = b"\xfd\x80\x7f" + block[3:]
    signed = sum(byte - 256 * (byte > 127) for byte in block[:148] + b" " * 8 + block[156:])
    assert begins_tar(with_sum(block, b"%06o\0 " % signed))
    assert begins_tar(with_sum(block, b"%06o\0 " % (signed + 512)))
    assert not begins_tar(with_sum(block, b"%06o\0 " % (signed + 256)))
    assert not begins_tar(with_sum(block, b"%06o\0 " % (signed + 768)))


@pytest.mark.parametrize("digits", [b"0", b"1", b"-200"])
def test_a_sum_of_signed_chars_below_zero_is_no_checksum(digits: bytes) -> None:
    block = b"\x80" * 3 + bytes(509)
    assert not begins_tar(with_sum(block, digits.ljust(8, b"\0")))


def test_a_header_of_ours_comes_from_nowhere_in_particular() -> None:
    """Equal members give equal bytes everywhere."""
    member = tarfile.TarInfo.frombuf(member_header(b"a/b.txt", 700), "utf-8", "strict")
    assert (member.name, member.size, member.isreg()) == ("a/b.txt", 700, True)
    assert (member.mode, member.uid, member.gid, member.mtime) == (0o644, 0, 0, 0)
    assert (member.uname, member.gname) == ("", "")


@pytest.mark.parametrize(("size", "zeros"), [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)])
def test_padding_fills_up_the_last_block(size: int, zeros: int) -> None:
    assert padding(size) == bytes(zeros)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 511, 8**11 - 1])
def test_an_octal_size_is_read(size: int) -> None:
    block = headers("a.txt", size)
    assert size_in(block) == size
    for field in (b"%11o " % size, b"%12o" % size, (b"%o" % size).ljust(12, b"\0")):
        assert size_in(block[:124] + field + block[136:]) == size


@pytest.mark.parametrize(
    "field", [b"\x80" + bytes(11), b"00000000008\0", b"00000000009\0", b"-0000000001\0", bytes(12)]
)
def test_a_size_that_is_not_octal_is_not_read(field: bytes) -> None:
    block = headers("a.txt", 0)
    assert size_in(block[:124] + field + block[136:]) is None


def test_the_fields_beside_the_size_are_not_part_of_it() -> None:
    """Some writers fill the fields with digits up to the next one."""
    block = headers("a.txt", 0)
    assert size_in(block[:123] + b"7" + b"123456701234" + b"7" + block[137:]) == 0o123456701234


def test_a_header_a_payload_its_padding_and_the_end_are_an_archive() -> None:
    """POSIX: an archive ends with two blocks of zeros."""
    archive = member_header(b"a.txt", 5) + b"12345" + padding(5) + END_OF_ARCHIVE
    report = scan_store(MemoryStore(archive)).report
    assert (report.bytes_scanned, report.end_marker) == (len(archive) - 1024, 2)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == ["a.txt"]
        assert tar.extractfile("a.txt").read() == b"12345"
