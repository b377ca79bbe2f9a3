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
