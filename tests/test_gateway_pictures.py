"""Thumbnails, and the IIIF Image API at level 1."""

import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from gatewayserver import serving
from PIL import Image, features

import blobpack
from blobpack.gateway.app import gateway_app
from blobpack.gateway.routes import pictures


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(width, height):
    """Left half red, right half blue; the upper right pixel area is green."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    image.paste("lime", (width * 3 // 4, 0, width, height // 4))
    return image


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees to the right
    return encoded(photo(400, 200), "JPEG", exif=exif, quality=95)


def bomb():
    """A PNG of a few bytes that says it has 20,000 × 20,000 pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


def tiff(width, height, tile_width, tile_length, count=1):
    """A TIFF of one tile of zeros, which takes little place and much memory."""
    data = zlib.compress(bytes(tile_width * 1024))
    fields = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1}
    fields |= {322: tile_width, 323: tile_length, 324: 8 + 2 + 10 * 12 + 4, 325: len(data)}
    entries = b"".join(
        struct.pack("<HHII", tag, 4, count if tag == 322 else 1, value)
        for tag, value in fields.items()
    )
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4) + data


FILES = {
    "one large tile.tif": tiff(64, 64, 32_768, 32_768),
    "two tile widths.tif": tiff(64, 64, 8, 64, count=2),
    "decoded in Python.qoi": b"qoif" + struct.pack(">II", 2001, 2000) + b"\3\0" + b"\xfd" * 70_000,
    "photo.jpg": encoded(photo(800, 400), "JPEG", quality=95),
    "turned.jpg": turned(),
    "clear.png": encoded(Image.new("RGBA", (300, 100), (255, 0, 0, 0))),
    "palette.gif": encoded(photo(90, 60).convert("P"), "GIF"),
    "grey.png": encoded(Image.new("I;16", (70, 50), 65535)),
    "small.png": encoded(photo(20, 10)),
    "wide.png": encoded(Image.new("L", (3000, 1))),
    "a/ü & b.webp": encoded(photo(200, 100), "WEBP"),
    "cut.jpg": encoded(photo(800, 400), "JPEG", quality=95)[:900],
    "bomb.png": bomb(),
    "text.jpg": b"no image",
    "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n/x {x} def x\n",
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "empty.png": b"",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "out.tar"
    blobpack.pack(FILES, path, all_files=True)
    with blobpack.open(path) as blob:
        app = gateway_app({"out": blob, "a/b": blob})
        with serving(app) as client:
            yield client, app


@pytest.fixture(scope="module")
def client(served):
    return served[0]


def shown(answer):
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    return Image.open(io.BytesIO(answer.body)).convert("RGB")


def colour(image, x, y):
    """The name of the strongest colour of a pixel, at a place between 0 and 1."""
    pixel = image.getpixel((int(x * (image.width - 1)), int(y * (image.height - 1))))
    return "white" if min(pixel) > 200 else ("red", "green", "blue")[pixel.index(max(pixel))]


# thumbnails


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("photo.jpg", {64: (64, 32), 128: (128, 64), 256: (256, 128), 512: (512, 256)}),
        ("turned.jpg", {128: (64, 128)}),
        ("clear.png", {128: (128, 43)}),
        ("palette.gif", {64: (64, 43), 128: (90, 60)}),
        ("grey.png", {64: (64, 46)}),
        ("small.png", {512: (20, 10)}),
        ("wide.png", {64: (64, 1)}),
        ("a/ü & b.webp", {64: (64, 32)}),
    ],
)
def test_a_thumbnail_fits_into_its_square(client, name, sizes):
    for size, expected in sizes.items():
        for blob in ("out", "a/b"):
            assert shown(client.ask(f"/t/{size}/{blob}/{quote(name)}")).size == expected


def test_a_thumbnail_is_turned_as_its_exif_says(client):
    image = shown(client.ask("/t/256/out/turned.jpg"))
    assert image.size == (128, 256)
    # what was left is on top, and what was in the upper right corner is at the lower right one
    assert [colour(image, 0.5, 0.1), colour(image, 0.1, 0.9), colour(image, 0.95, 0.95)] == [
        "red",
        "blue",
        "green",
    ]


def test_what_is_transparent_is_white(client):
    assert colour(shown(client.ask("/t/64/out/clear.png")), 0.5, 0.5) == "white"


@pytest.mark.parametrize(
    "name",
    [
        "bomb.png",
        "text.jpg",
        "program.eps",
        "drawing.svg",
        "empty.png",
        "cut.jpg",
        "one large tile.tif",
        "two tile widths.tif",
        "decoded in Python.qoi",
    ],
)
def test_what_can_not_be_shown_is_a_422(client, name):
    name = quote(name)
    for target in (f"/t/64/out/{name}", f"/iiif/out%2F{name}/full/max/0/default.jpg"):
        answer = client.ask(target)
        # half a JPEG can be shown in part, or not at all
        assert answer.status == 422
        assert answer.json["status"] == 422


def test_an_image_of_many_pixels_is_not_decoded(client, monkeypatch):
    monkeypatch.setattr(pictures, "PIXELS_MAX", 800 * 400 - 1)
    answer = client.ask("/iiif/out%2Fphoto.jpg/0,0,100,101/max/0/default.jpg")
    assert answer.status == 422
    assert "million pixels" in answer.json["detail"]
    # a JPEG is decoded at half its size here
    assert client.ask("/t/64/a/b/photo.jpg").status == 200
    monkeypatch.setattr(pictures, "PAYLOAD_BYTES_MAX", 10)
    assert client.ask("/iiif/out%2Fphoto.jpg/0,0,100,102/max/0/default.jpg").status == 422


@pytest.mark.parametrize(
    "target",
    [
        "/t/100/out/photo.jpg",
        "/t/064/out/photo.jpg",
        "/t/-64/out/photo.jpg",
        "/t/64/out/none.jpg",
        "/t/64/none/photo.jpg",
        "/t/64/",
        "/t/64",
        "/t/",
    ],
)
def test_other_sizes_and_names_do_not_exist(client, target):
    assert client.ask(target).status == 404


def test_thumbnails_are_made_once_and_kept(served):
    client, app = served
    begun = app.services.pictures.made.begun
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(client.ask, ["/t/512/out/a/%C3%BC%20%26%20b.webp"] * 8))
    assert len({answer.body for answer in answers}) == 1
    assert client.ask("/t/512/a/b/a/%C3%BC%20%26%20b.webp").body == answers[0].body
    assert app.services.pictures.made.begun == begun + 1
    assert app.services.pictures._kept._size <= pictures.CACHE_BYTES


def test_what_a_small_file_holds_is_not_decoded(client):
    for name in ("one large tile.tif", "decoded in Python.qoi"):
        detail = client.ask(f"/t/64/out/{quote(name)}").json["detail"]
        assert "million pixels" in detail


def sized(payload, place, width, height):
    """Return an image whose container says another size: big-endian sides behind a word."""
    at = payload.index(place) + len(place)
    return payload[:at] + struct.pack(">II", width, height) + payload[at + 8 :]


def png_with(kind, data):
    """A PNG with another chunk behind its header."""
    whole = encoded(photo(20, 10))
    part = struct.pack(">I", len(data)) + kind + data
    return whole[:33] + part + struct.pack(">I", zlib.crc32(kind + data)) + whole[33:]


def bombs():
    flat = zlib.compress(bytes(64 << 20), 9)
    wide = Image.new("L", (300, 300))
    jp2 = encoded(wide, "JPEG2000")
    return {
        "wide.jp2": jp2,
        "wide.png": encoded(wide),
        "larger inside.jp2": sized(jp2, b"ihdr", 90, 90),
        "text.png": png_with(b"zTXt", b"Comment\0\0" + flat),
        "more text.png": png_with(b"iTXt", b"Comment\0\1\0\0\0" + flat),
        "profile.png": png_with(b"iCCP", b"profile\0\0" + flat),
    } | ({"wide.avif": encoded(wide.convert("RGB"), "AVIF")} if features.check("avif") else {})


def test_bombs_of_other_formats(tmp_path, monkeypatch):
    """What is large only when it is decoded: pixels, texts and profiles."""
    monkeypatch.setattr(pictures, "PIXELS_MAX", 10_000)
    files = bombs()
    blobpack.pack(files, tmp_path / "out.tar", all_files=True)
    with blobpack.open(tmp_path / "out.tar") as blob, serving(gateway_app({"out": blob})) as client:
        for name in files:
            answer = client.ask(f"/t/64/out/{quote(name)}")
            assert answer.status == 422, name
            assert client.ask("/healthz").status == 200


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow opens no AVIF")
def test_one_avif_is_decoded_at_a_time(tmp_path, monkeypatch):
    """Its frames may have more pixels than it says, and Pillow can't tell before they are decoded."""
    lying = sized(encoded(Image.new("RGB", (300, 300)), "AVIF"), b"ispe\0\0\0\0", 90, 90)
    monkeypatch.setattr(pictures, "PIXELS_MAX", 10_000)
    from PIL.AvifImagePlugin import AvifImageFile

    held = []

    def load(image, real=AvifImageFile.load):
        held.append(pictures.AVIF_TURN.locked())
        return real(image)

    monkeypatch.setattr(AvifImageFile, "load", load)
    blobpack.pack({"lying.avif": lying}, tmp_path / "out.tar")
    with blobpack.open(tmp_path / "out.tar") as blob, serving(gateway_app({"out": blob})) as client:
        assert client.ask("/t/64/out/lying.avif").status == 200
        assert client.ask("/iiif/out%2Flying.avif/full/max/0/default.jpg").status == 200
    assert held
    assert all(held)


def test_large_payloads_do_not_wait_in_memory(tmp_path):
    """Requests for pictures of one large member read it when a thread is free to decode it, and not before."""
    large = encoded(photo(1000, 600), "BMP")
    blobpack.pack({"large.bmp": large}, tmp_path / "out.tar")
    with blobpack.open(tmp_path / "out.tar") as blob:
        app = gateway_app({"out": blob})
        with serving(app) as client, ThreadPoolExecutor(8) as threads:
            targets = [f"/iiif/out%2Flarge.bmp/{i},0,9,9/max/0/default.jpg" for i in range(1, 9)]
            assert {answer.status for answer in threads.map(client.ask, targets)} == {200}
        # no request read it before it had a thread
        assert (app.services.payloads.upstream_reads, app.services.pictures.made.begun) == (0, 8)


def test_the_cache_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "CACHE_BYTES", 4000)
    blobpack.pack({f"{i}.png": encoded(photo(64, 64)) for i in range(20)}, tmp_path / "out.tar")
    with blobpack.open(tmp_path / "out.tar") as blob:
        app = gateway_app({"out": blob})
        with serving(app) as client:
            for i in range(20):
                assert client.ask(f"/t/64/out/{i}.png").status == 200
        assert 0 < app.services.pictures._kept._size <= 4000
        assert len(app.services.pictures._kept) < 20


def test_thumbnails_have_tags_of_their_own(client):
    first = client.ask("/t/64/out/photo.jpg")
    etag = first.headers["etag"]
    assert etag != client.ask("/t/128/out/photo.jpg").headers["etag"]
    assert etag != client.ask("/b/out/photo.jpg").headers["etag"]
    again = client.ask("/t/64/out/photo.jpg", If_None_Match=etag)
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    head = client.ask("/t/64/out/photo.jpg", "HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", first.headers["content-length"])
    assert client.ask("/t/64/out/photo.jpg", "POST", b"").status == 405
    assert client.ask("/t/64/out/photo.jpg", "OPTIONS").status == 204


def test_a_blob_that_changes_is_a_409_for_kept_thumbnails_too(tmp_path):
    path = tmp_path / "out.tar"
    blobpack.pack(FILES, path, all_files=True)
    with blobpack.open(path) as blob, serving(gateway_app({"out": blob})) as client:
        assert client.ask("/t/64/out/photo.jpg").status == 200
        os.utime(path, ns=(0, 0))
        assert client.ask("/t/64/out/photo.jpg").status == 409


# IIIF: https://iiif.io/api/image/3.0/compliance/


@pytest.mark.parametrize(
    ("request_", "size"),
    [
        # level 0
        ("full/max/0/default.jpg", (800, 400)),
        # level 1
        ("square/max/0/default.jpg", (400, 400)),
        ("0,0,200,100/max/0/default.jpg", (200, 100)),
        ("700,300,200,200/max/0/default.jpg", (100, 100)),
        ("full/200,/0/default.jpg", (200, 100)),
        ("full/,100/0/default.jpg", (200, 100)),
        ("full/300,77/0/default.jpg", (300, 77)),
        ("10,20,30,40/15,/0/default.jpg", (15, 20)),
        ("square/,1/0/default.jpg", (1, 1)),
        # of level 2
        ("pct:50,50,25,50/max/0/default.jpg", (200, 200)),
        ("pct:12.5,0,0.5,100/max/0.0/default.jpg", (4, 400)),
        ("full/pct:25/0/default.jpg", (200, 100)),
        ("full/!300,300/0/default.jpg", (300, 150)),
        ("full/800,400/0/default.jpg", (800, 400)),
    ],
)
def test_level_1_of_the_image_api(client, request_, size):
    for identifier in ("out%2Fphoto.jpg", "out/photo.jpg", "a%2Fb%2Fphoto.jpg"):
        assert shown(client.ask(f"/iiif/{identifier}/{request_}")).size == size


def test_regions_are_cut_from_the_image_as_it_is_shown(client):
    image = shown(client.ask("/iiif/out%2Fphoto.jpg/600,0,200,100/max/0/default.jpg"))
    assert colour(image, 0.5, 0.5) == "green"
    image = shown(client.ask("/iiif/out%2Fturned.jpg/0,200,200,200/50,/0/default.jpg"))
    assert [colour(image, 0.2, 0.5), colour(image, 0.9, 0.9)] == ["blue", "green"]
    assert client.ask("/iiif/out%2Fturned.jpg/info.json").json["height"] == 400


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("full/801,/0/default.jpg", 400),
        ("full/,401/0/default.jpg", 400),
        ("full/0,/0/default.jpg", 400),
        ("full/,/0/default.jpg", 400),
        ("full/!5,/0/default.jpg", 400),
        ("full/pct:101/0/default.jpg", 400),
        ("full/pct:0/0/default.jpg", 400),
        ("800,0,1,1/max/0/default.jpg", 400),
        ("0,0,0,5/max/0/default.jpg", 400),
        ("-1,0,5,5/max/0/default.jpg", 400),
        ("1,2,3/max/0/default.jpg", 400),
        ("full/full/0/default.jpg", 400),
        ("full/max/0/best.jpg", 400),
        ("full/max/0/default.exe", 400),
        ("full/max/0/default", 400),
        ("full/99999999999,/0/default.jpg", 400),
        ("full/^max/0/default.jpg", 501),
        ("full/^1000,/0/default.jpg", 501),
        ("full/max/90/default.jpg", 501),
        ("full/max/!0/default.jpg", 501),
        ("full/max/0/gray.jpg", 501),
        ("full/max/0/default.png", 501),
        ("full/max/x/default.jpg", 404),
    ],
)
def test_other_image_requests_are_refused(client, request_, status):
    assert client.ask(f"/iiif/out%2Fphoto.jpg/{request_}").status == status


def test_an_image_is_described(client):
    answer = client.ask("/iiif/out%2Fphoto.jpg/info.json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    found = answer.json
    assert found.pop("extraFeatures")
    assert found == {
        "@context": "http://iiif.io/api/image/3/context.json",
        "id": f"{client.url}/iiif/out%2Fphoto.jpg",
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level1",
        "width": 800,
        "height": 400,
    }
    linked = client.ask("/iiif/out%2Fphoto.jpg/info.json", Accept="application/ld+json")
    assert (
        linked.headers["content-type"]
        == 'application/ld+json;profile="http://iiif.io/api/image/3/context.json"'
    )
    assert client.ask("/iiif/out%2Fnone.jpg/info.json").status == 404


def test_caches_keep_a_description_for_the_client_whose_header_let_it_in(served):
    path = "/iiif/out%2Fphoto.jpg/info.json"
    blobs = {blob.name: blob.reader for blob in served[1].services.blobs}
    app = gateway_app(blobs, keys={"key": "secret"}, require_token=True, pinned=True)
    token = app.services.access.keys.token("out")
    with serving(app) as client:
        answer = client.ask(path, Authorization=f"Bearer {token}")
        assert answer.headers["cache-control"].startswith("private")
        assert client.ask(f"/k/{token}{path}").headers["cache-control"].startswith("public")


def test_the_base_uri_leads_to_the_description(client):
    for target in ("/iiif/out%2Fa%2F%C3%BC%20%26%20b.webp", "/iiif/out/a/%C3%BC%20%26%20b.webp"):
        answer = client.ask(target)
        assert answer.status == 303
        assert (
            answer.headers["location"]
            == f"{client.url}/iiif/out%2Fa%2F%C3%BC%20%26%20b.webp/info.json"
        )
    followed = client.ask(answer.headers["location"].removeprefix(client.url))
    assert followed.json["width"] == 200
    assert client.ask("/iiif/none").status == 404


def test_an_index_without_facts_is_described_by_the_payload(tmp_path):
    path = tmp_path / "out.tar"
    blobpack.pack({"turned.jpg": FILES["turned.jpg"]}, path, facts=False)
    with blobpack.open(path) as blob, serving(gateway_app({"out": blob})) as client:
        found = client.ask("/iiif/out%2Fturned.jpg/info.json").json
        assert (found["width"], found["height"]) == (200, 400)


def test_descriptions_keep_the_token_and_the_proxys_scheme(tmp_path):
    path = tmp_path / "out.tar"
    blobpack.pack({"p.png": FILES["small.png"]}, path)
    with blobpack.open(path) as blob:
        app = gateway_app({"out": blob}, keys={"key": "secret"}, require_token=True)
        with serving(app) as client:
            token = app.services.access.keys.token("out")
            base = f"/k/{token}/iiif/out%2Fp.png"
            found = client.ask(
                f"{base}/info.json", X_Forwarded_Proto="https", Host="images.example"
            ).json
            assert found["id"] == f"https://images.example{base}"
            assert client.ask(f"{base}/full/max/0/default.jpg").status == 200
            assert client.ask(f"/k/{token}/t/64/out/p.png").status == 200
            for target in ("/iiif/out%2Fp.png/info.json", "/t/64/out/p.png"):
                assert client.ask(target).status == 401
