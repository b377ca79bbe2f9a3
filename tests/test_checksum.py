"""CRC-32C is computed by a wide multiplier, libcrc32c or a table: all of them compute the same."""

import random
import subprocess
import sys

import google_crc32c
import pytest

from blobpack._native.checksums import crc32c_by
from blobpack.checksum import crc32c


def has_wide_multiplier() -> bool:
    try:
        crc32c_by("wide", b"")
    except ValueError:
        return False
    return True


needs_wide = pytest.mark.skipif(
    not has_wide_multiplier(), reason="this processor has no VPCLMULQDQ for 512 bits"
)


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
    payload = random.Random(1).randbytes(5000)
    for cut in (1, 255, 256, 700, 4999):
        assert crc32c(payload[cut:], crc32c(payload[:cut])) == crc32c(payload)


@pytest.mark.parametrize(
    "way", [pytest.param("wide", marks=needs_wide), "library", "table"], ids=str
)
def test_every_way_computes_the_same(way: str) -> None:
    """Lengths around the sizes of its blocks, at every place in a block, and one that is read without the GIL."""
    source = memoryview(random.Random(2).randbytes(200_000))
    for length in [*range(800), 1023, 1024, 1100, 4099, 65_535, 65_536, 199_000]:
        start = length % 67
        payload = source[start : start + length]
        assert crc32c_by(way, payload) == google_crc32c.value(bytes(payload)), length


def test_no_other_way() -> None:
    with pytest.raises(ValueError, match="no such way here: 'guess'"):
        crc32c_by("guess", b"")


def test_without_the_library_the_checksums_are_the_same() -> None:
    """In a process of its own, in which google_crc32c can't be imported."""
    code = (
        "import sys\n"
        "sys.modules['google_crc32c'] = None\n"
        "from blobpack._native.facts import facts_of\n"
        "for payload in (b'', b'123456789', bytes(range(256)) * 20):\n"
        "    print(facts_of(payload, b'').crc32c)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = [crc32c(payload) for payload in (b"", b"123456789", bytes(range(256)) * 20)]
    assert list(map(int, done.stdout.split())) == expected
