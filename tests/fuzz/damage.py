"""Damage that the fuzzers do to inputs: bytes changed, cut, copied, moved and joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

# values at which lengths, signs and fields change their meaning
EDGES = (0, 1, 7, 0x20, 0x2F, 0x30, 0x37, 0x38, 0x7F, 0x80, 0x81, 0xFE, 0xFF)
WORDS = (
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)


def damage(data: bytes, generator: random.Random, most: int = 4) -> bytes:
    """Return the bytes with one to `most` changes."""
    for _ in range(generator.randint(1, most)):
        data = _change(data, generator)
    return data


def _change(data: bytes, generator: random.Random) -> bytes:
    if not data:
        return generator.randbytes(generator.randint(1, 64))
    place = generator.randrange(len(data))
    length = min(generator.choice((1, 2, 4, 8, 16, 100, 512, 4096)), len(data) - place)
    kind = generator.randrange(9)
    if kind == 0:  # one bit
        return data[:place] + bytes([data[place] ^ 1 << generator.randrange(8)]) + data[place + 1 :]
    if kind == 1:  # one byte
        return data[:place] + bytes([generator.choice(EDGES)]) + data[place + 1 :]
    if kind == 2:  # a number, of either byte order
        width = generator.choice((2, 4, 8))
        value = generator.choice(WORDS) & (1 << 8 * width) - 1
        order = generator.choice(("little", "big"))
        return data[:place] + value.to_bytes(width, order) + data[place + width :]
    if kind == 3:  # cut at the end
        return data[:place]
    if kind == 4:  # a piece is missing
        return data[:place] + data[place + length :]
    if kind == 5:  # a piece stands twice
        return data[:place] + data[place : place + length] + data[place:]
    if kind == 6:  # a piece overwrites another one
        other = generator.randrange(len(data))
        return data[:other] + data[place : place + length] + data[other + length :]
    if kind == 7:  # a piece of zeros
        return data[:place] + bytes(length) + data[place + length :]
    return data[:place] + generator.randbytes(length) + data[place + length :]
