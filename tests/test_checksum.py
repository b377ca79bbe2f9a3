"""CRC-32C comes from libcrc32c, for Python and for native code."""

import pytest

from blobpack.checksum import crc32c, crc32c_address


@pytest.mark.parametrize(
    ("payload", "expected"),
    [(b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)],
    ids=["empty", "check", "zeros", "ones"],
)
def test_known_answers(payload: bytes, expected: int) -> None:
    """The check value, and RFC 3720, B.4."""
    assert crc32c(payload) == expected


def test_on_from_the_bytes_before() -> None:
    assert crc32c(b"456789", crc32c(b"123")) == crc32c(b"123456789")


def test_the_library_is_there() -> None:
    assert crc32c_address() > 0
