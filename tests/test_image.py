"""Payloads become the pixels that a viewer would show."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image, features

import blobpack


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def gradient(height=6, width=9):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 20, y * 30, x * y], axis=-1).astype(np.uint8)


@pytest.fixture
def blob(tmp_path):
    pixels = Image.fromarray(gradient())
    rgba = Image.fromarray(np.dstack([gradient(), np.full((6, 9), 128, np.uint8)]))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    sixteen = Image.fromarray((np.arange(54).reshape(6, 9) * 1000).astype(np.uint16))
    payloads = {
        "rgb.png": encoded(pixels, "PNG"),
        "photo.jpg": encoded(pixels, "JPEG", quality=95),
        "turned.png": encoded(pixels, "PNG", exif=exif),
        "grey.png": encoded(pixels.convert("L"), "PNG"),
        "palette.gif": encoded(pixels.convert("P"), "GIF"),
        "alpha.png": encoded(rgba, "PNG"),
        "bits16.png": encoded(sixteen, "PNG"),
        "cmyk.jpg": encoded(pixels.convert("CMYK"), "JPEG"),
        "one.bmp": encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "BMP"),
        "text.txt": b"no picture",
        "empty.png": b"",
        "cut.png": encoded(pixels, "PNG")[:60],
        "cut.jpg": encoded(pixels.resize((300, 300)), "JPEG")[:900],
    }
    if features.check("webp"):
        payloads["lossless.webp"] = encoded(pixels, "WEBP", lossless=True)
    blobpack.pack(payloads.items(), tmp_path / "o.tar", all_files=True)
    with blobpack.open_blob(tmp_path / "o.tar") as opened:
        yield opened


@pytest.mark.parametrize("name", ["rgb.png", "lossless.webp"])
def test_pixels_are_height_width_rgb_uint8(blob, name):
    if name not in blob.index:
        pytest.skip("this Pillow has no WebP")
    pixels = blobpack.read_image(blob, name)
    assert pixels.shape == (6, 9, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == gradient()).all()


@pytest.mark.parametrize(
    "name", ["photo.jpg", "grey.png", "palette.gif", "alpha.png", "cmyk.jpg", "bits16.png"]
)
def test_every_kind_of_image_becomes_rgb(blob, name):
    pixels = blobpack.read_image(blob, name)
    assert pixels.shape == (6, 9, 3)
    assert pixels.dtype == np.uint8


def test_jpeg_is_what_pillow_decodes(blob):
    with Image.open(io.BytesIO(blob.read("photo.jpg"))) as image:
        assert (blobpack.read_image(blob, "photo.jpg") == np.asarray(image)).all()


def test_exif_orientation_is_applied_unless_not_wanted(blob):
    shown = blobpack.read_image(blob, "turned.png")
    assert (shown == np.rot90(gradient(), -1)).all()
    stored = blobpack.read_image(blob, "turned.png", apply_exif_orientation=False)
    assert (stored == gradient()).all()


def test_other_modes_can_be_asked_for(blob):
    assert blobpack.read_image(blob, "rgb.png", mode="L").shape == (6, 9)
    assert blobpack.read_image(blob, "rgb.png", mode="RGBA").shape == (6, 9, 4)
    assert blobpack.read_image(blob, "alpha.png", mode=None).shape == (6, 9, 4)


def test_sixteen_bits_keep_the_upper_eight(blob):
    raw = blobpack.read_image(blob, "bits16.png", mode=None)
    assert raw.max() == 53_000
    assert (blobpack.read_image(blob, "bits16.png", mode="L") == raw >> 8).all()


@pytest.mark.parametrize("name", ["text.txt", "empty.png", "cut.png", "cut.jpg"])
def test_what_is_no_image_is_named(blob, name):
    with pytest.raises(blobpack.ImageError, match=name) as caught:
        blobpack.read_image(blob, name)
    assert isinstance(caught.value, ValueError)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_a_wrong_mode_is_a_value_error(blob):
    with pytest.raises(ValueError, match=r"mode must be .*, not 'no such mode'"):
        blobpack.read_image(blob, "rgb.png", mode="no such mode")


def test_a_path_will_do_for_a_blob(blob):
    assert (blobpack.read_image(blob.url, "rgb.png") == gradient()).all()


def test_many_come_in_the_order_asked(blob):
    names = ["one.bmp", "rgb.png", "one.bmp"]
    shapes = [pixels.shape for pixels in blobpack.read_images(blob, names)]
    assert shapes == [(1, 1, 3), (6, 9, 3), (1, 1, 3)]
    assert len(list(blobpack.read_images(blob.url, names))) == 3


def test_pixels_may_be_drawn_on(blob):
    pixels = blobpack.read_image(blob, "rgb.png")
    pixels[0, 0] = 255
    assert pixels[0, 0, 0] == 255


def test_one_name_instead_of_several_is_refused(blob):
    with pytest.raises(TypeError, match="several names"):
        list(blobpack.read_images(blob, "rgb.png"))
    assert len(list(blobpack.read_images(blob, blob.index.select("*.bmp")))) == 1


def test_a_missing_member_is_no_image_error(blob):
    with pytest.raises(blobpack.MemberNotFoundError, match=r"near it: 'rgb\.png'"):
        blobpack.read_image(blob, "rbg.png")


# Resized


def resized(pixels, size):
    height, width = size
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def test_images_are_resized_as_pillow_resizes_them(blob):
    for size in ((3, 4), (6, 9), (20, 10)):
        pixels = blobpack.read_image(blob, "rgb.png", size=size)
        assert pixels.shape == (*size, 3)
        assert (pixels == resized(gradient(), size)).all()
        [same] = blobpack.read_images(blob, ["rgb.png"], size=size)
        assert (same == pixels).all()


def test_the_size_is_that_of_the_image_as_shown(blob):
    shown = np.ascontiguousarray(np.rot90(gradient(), -1))
    pixels = blobpack.read_image(blob, "turned.png", size=(5, 3))
    assert (pixels == resized(shown, (5, 3))).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", None])
def test_other_modes_are_resized_after_they_are_converted(blob, mode):
    whole = blobpack.read_image(blob, "alpha.png", mode=mode)
    image = Image.fromarray(whole, mode="CMYK") if mode == "CMYK" else Image.fromarray(whole)
    expected = np.asarray(image.resize((4, 3), Image.Resampling.BILINEAR))
    assert (blobpack.read_image(blob, "alpha.png", mode=mode, size=(3, 4)) == expected).all()


# Into an array of the caller


@pytest.mark.parametrize("name", ["rgb.png", "photo.jpg", "turned.png", "cmyk.jpg"])
def test_pixels_are_written_to_the_array_that_is_given(blob, name):
    expected = blobpack.read_image(blob, name)
    out = np.zeros_like(expected)
    assert blobpack.read_image(blob, name, out=out) is out
    assert (out == expected).all()
    # any strides will do
    spread = np.zeros((2 * out.shape[0], 2 * out.shape[1], 4), np.uint8)
    part = spread[::2, ::-2, :3]
    assert blobpack.read_image(blob, name, out=part) is part
    assert (part == expected).all()
    assert not spread[1::2].any()


def test_many_are_written_to_one_array(blob):
    names = ["photo.jpg", "rgb.png", "turned.png", "photo.jpg", "grey.png"] * 9
    expected = np.stack(list(blobpack.read_images(blob, names, size=(4, 4))))
    out = np.zeros((len(names) + 3, 4, 4, 3), np.uint8)
    for i, pixels in enumerate(blobpack.read_images(blob, names, size=(4, 4), out=out)):
        assert (pixels == expected[i]).all()
        assert np.shares_memory(pixels, out[i])
    assert (out[: len(names)] == expected).all()
    assert not out[len(names) :].any()


def test_an_array_of_another_shape_or_dtype_is_refused(blob):
    for out in (np.zeros((9, 6, 3), np.uint8), np.zeros((6, 9), np.uint8)):
        with pytest.raises(ValueError, match=r"rgb\.png.*shape \(6, 9, 3\).*but out has"):
            blobpack.read_image(blob, "rgb.png", out=out)
    for name in ("rgb.png", "photo.jpg"):
        with pytest.raises(ValueError, match=rf"{name}.*uint8, but out has .*float32"):
            blobpack.read_image(blob, name, out=np.zeros((6, 9, 3), np.float32))
    images = blobpack.read_images(
        blob, ["rgb.png", "one.bmp"], out=np.zeros((2, 6, 9, 3), np.uint8)
    )
    next(images)
    with pytest.raises(ValueError, match=r"one\.bmp.*\(1, 1, 3\).*but out has"):
        next(images)


def test_an_array_that_is_too_short_takes_the_first_images(blob):
    out = np.zeros((2, 6, 9, 3), np.uint8)
    images = blobpack.read_images(blob, ["rgb.png", "photo.jpg", "grey.png"], out=out)
    assert len([next(images), next(images)]) == 2
    with pytest.raises(ValueError, match=r"grey\.png.*out has room for 2 images"):
        next(images)


def test_a_row_of_images_of_any_length_ends_where_one_fails(blob):
    """Threads decode images in groups: all images before the one that fails are yielded."""
    for count in (*range(20), 40):
        for wrong in ("cut.jpg", "missing"):
            images = blobpack.read_images(blob, ["rgb.png"] * count + [wrong, "rgb.png"])
            for _ in range(count):
                assert (next(images) == gradient()).all()
            with pytest.raises(blobpack.BlobpackError, match=wrong):
                next(images)


def test_large_images_are_not_decoded_far_ahead(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    payload = encoded(Image.fromarray(noise), "PNG")
    blobpack.pack({f"{i}.png": payload for i in range(60)}, tmp_path / "large.tar")
    monkeypatch.setattr("blobpack.reading.groups_ahead.processor_count", lambda most: 2)
    out = np.zeros((60, 300, 300, 3), np.uint8)
    images = blobpack.read_images(tmp_path / "large.tar", range(60), out=out)
    next(images)
    # two threads, two images for each, and the one that was taken
    assert sum(out[i].any() for i in range(60)) <= 5
    images.close()
