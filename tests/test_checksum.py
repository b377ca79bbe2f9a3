"""CRC-32C comes from libcrc32c, for Python and for native code."""

import subprocess
import sys
import timeit

import pytest

from blobpack._native.facts import facts_of
from blobpack.checksum import crc32c


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


def native_crc32c(payload: bytes) -> int:
    return facts_of(payload, b"").crc32c


def test_native_code_finds_the_library() -> None:
    """It is the library's function if it is as fast; the table takes a hundred times longer."""
    payload = bytes(8 << 20)
    fastest = {
        function: min(timeit.repeat(lambda function=function: function(payload), number=1))
        for function in (crc32c, native_crc32c)
    }
    assert fastest[native_crc32c] < 4 * fastest[crc32c]


def test_without_the_library_a_table_computes_the_same() -> None:
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
