"""A group of JPEGs is decoded by one call, into new arrays or into those that are given."""

from __future__ import annotations

import random

import numpy as np
import pytest
from jpegs import encoded, picture, random_jpeg
from PIL import Image

from blobpack.reading.jpeg import decode_jpegs
from blobpack.reading.wanted import Wanted


def test_a_group_has_the_pixels_of_each_image_alone() -> None:
    rng = random.Random(12)
    payloads = [random_jpeg(rng, largest=70) for _ in range(40)]
    payloads[3] = payloads[9][:200]
    payloads[5] = encoded(picture(rng, 20, 20).convert("CMYK"))
    payloads[7] = b"no image"
    payloads[11] = b""
    for wanted in (Wanted(), Wanted(None), Wanted("L"), Wanted("RGBA"), Wanted(size=(9, 17))):
        group = decode_jpegs(payloads, wanted, None)
        for payload, pixels in zip(payloads, group, strict=True):
            [alone] = decode_jpegs([payload], wanted, None)
            assert (pixels is None) == (alone is None)
            assert pixels is None or np.array_equal(pixels, alone)
    assert decode_jpegs([], Wanted(), None) == []


def test_a_group_is_decoded_into_arrays_of_its_shape() -> None:
    rng = random.Random(13)
    exif = Image.Exif()
    exif[0x0112] = 6
    small, large = (picture(rng, *sides) for sides in ((24, 16), (16, 24)))
    payloads = [encoded(small), encoded(large), encoded(large, exif=exif), b"", encoded(small)]
    expected = decode_jpegs(payloads, Wanted(), None)
    batch = np.zeros((5, 16, 24, 3), np.uint8)
    outs = list(batch)
    decoded = decode_jpegs(payloads, Wanted(), outs)
    assert [pixels is out for pixels, out in zip(decoded, outs, strict=True)] == [
        True, False, True, False, True,
    ]  # fmt: skip
    for pixels, same in zip(decoded, expected, strict=True):
        assert pixels is same is None or np.array_equal(pixels, same)
    assert np.array_equal(batch[[0, 2, 4]], np.stack([expected[i] for i in (0, 2, 4)]))
    # arrays that simplejpeg can't write to are left alone
    for other in (
        np.zeros((5, 16, 24, 3), np.float32),
        np.zeros((5, 16, 24, 6), np.uint8)[..., ::2],
    ):
        decoded = decode_jpegs(payloads, Wanted(), list(other))
        assert all(
            pixels is None or np.array_equal(pixels, same)
            for pixels, same in zip(decoded, expected, strict=True)
        )
        assert not other.any()


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_memory_beside_an_array_that_is_given_is_left_alone(mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    payload = encoded(picture(random.Random(14), 65, 64).convert(mode), exif=exif)
    wanted = Wanted(mode)
    [expected] = decode_jpegs([payload], wanted, None)
    for start in range(64):
        memory = np.full(64 + expected.size + 64, 77, np.uint8)
        end = start + expected.size
        out = memory[start:end].reshape(expected.shape)
        [pixels] = decode_jpegs([payload], wanted, [out])
        assert pixels is out
        assert np.array_equal(out, expected)
        assert (memory[:start] == 77).all()
        assert (memory[end:] == 77).all()
