"""The JSON API, batches, whole files, metrics, and the application within another one."""

import io
import json
import os
import socket
import tarfile
from urllib.parse import quote

import jsonschema
import openapi_spec_validator
import pytest
from gatewayserver import TIMEOUT_S, serving
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import blobpack
from blobpack.gateway import payloads
from blobpack.gateway.app import gateway_app
from blobpack.gateway.routes import api, tar_stream
from blobpack.gateway.tokens import EVERYTHING

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(200))
PNG_FILE = io.BytesIO()
Image.new("RGB", (9, 7)).save(PNG_FILE, "PNG")
PNG = PNG_FILE.getvalue()
FILES = {f"cats/{i:03}.jpg": JPEG + b"%d" % i for i in range(250)} | {
    "dogs/[1].png": PNG,
    "dogs/ü \udcff.png": PNG,
    "large.bin": os.urandom(1 << 21),
    "empty": b"",
}
NAMES = list(FILES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    blobpack.pack(FILES, folder / "out.tar", all_files=True)
    blobpack.pack({"x.jpg": JPEG}, folder / "bare.tar", facts=False, index="none")
    blobpack.pack_shards(FILES, folder / "train", 1 << 16, all_files=True)
    return folder


@pytest.fixture(scope="module")
def blobs(folder):
    opened = {
        "out": blobpack.open(folder / "out.tar"),
        "nested/bare": blobpack.open(folder / "bare.tar"),
        "train": blobpack.open(folder / "train"),
    }
    yield opened
    for blob in opened.values():
        blob.close()


@pytest.fixture(scope="module")
def client(blobs):
    with serving(gateway_app(blobs)) as client:
        yield client


def post(client, target, body):
    return client.ask(
        target, "POST", body if isinstance(body, bytes) else json.dumps(body).encode()
    )


def pages(client, query, blob="out"):
    """All members of a listing, page by page, and the number of pages."""
    members, count, cursor = [], 0, ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        answer = client.ask(f"/api/v1/blobs/{blob}/members?{query}{more}")
        assert answer.status == 200, answer.body
        members += answer.json["members"]
        cursor, count = answer.json["next_cursor"], count + 1
    return members, count


# blobs and members


def test_blobs_are_listed(client, blobs):
    found = client.ask("/api/v1/blobs").json["blobs"]
    assert [(blob["name"], blob["members"], blob["blobs"]) for blob in found] == [
        ("out", 254, 1),
        ("nested/bare", 1, 1),
        ("train", 254, len(blobs["train"].blobs)),
    ]
    assert found[0]["payload_bytes"] == sum(map(len, FILES.values()))
    for blob in found:
        assert client.ask(f"/api/v1/blobs/{blob['name']}").json == blob
        assert client.ask(f"{blob['pinned_url']}none").status == 404
    assert client.ask(found[0]["url"] + "cats/007.jpg").body == FILES["cats/007.jpg"]
    assert client.ask(found[0]["pinned_url"] + "cats/007.jpg").body == FILES["cats/007.jpg"]
    assert client.ask("/api/v1/blobs/none").status == 404
    assert client.ask("/api/v1/blobs/none/members").status == 404


@pytest.mark.parametrize("blob", ["out", "train"])
def test_all_members_are_listed_page_by_page(client, blobs, blob):
    members, count = pages(client, "limit=100", blob)
    assert [member["member"] for member in members] == NAMES
    assert count == 3
    for member, row in zip(members, blobs[blob].index, strict=True):
        assert (member["offset_start"], member["offset_end"]) == (row.offset_start, row.offset_end)
        assert (member["width"], member["height"]) == (row.width, row.height)
        assert member["crc32c"] == f"{row.crc32c:08x}"
        assert member["media_type"] == row.media_type
        assert member["size"] == row.size
    for member in members[::25]:
        answer = client.ask(member["url"])
        assert (answer.body, answer.headers["etag"]) == (FILES[member["member"]], member["etag"])
        assert client.ask(f"/api/v1/members/{member['id']}").json == member


@pytest.mark.parametrize(
    ("query", "select"),
    [
        ("prefix=dogs/", lambda name, payload: name.startswith("dogs/")),
        ("prefix=dogs/[", lambda name, payload: name.startswith("dogs/[")),
        ("prefix=dogs/%C3%BC", lambda name, payload: name.startswith("dogs/ü")),
        ("glob=*1.jpg", lambda name, payload: name.endswith("1.jpg")),
        (
            "glob=*1.jpg&glob=large*",
            lambda name, payload: name.endswith("1.jpg") or name == "large.bin",
        ),
        (
            "glob=*1.jpg&prefix=cats/0",
            lambda name, payload: name.startswith("cats/0") and name.endswith("1.jpg"),
        ),
        ("media_type=image/png", lambda name, payload: payload == PNG),
        ("media_type=image/*&prefix=dogs", lambda name, payload: payload == PNG),
        ("min_size=207&max_size=1000", lambda name, payload: 207 <= len(payload) <= 1000),
        ("min_width=9&max_height=7", lambda name, payload: payload == PNG),
        ("min_size=99999999", lambda name, payload: False),
        ("prefix=none", lambda name, payload: False),
    ],
)
@pytest.mark.parametrize("limit", [7, 1000])
def test_members_are_selected(client, query, select, limit):
    members, _ = pages(client, f"{query}&limit={limit}")
    assert [member["member"] for member in members] == [
        name for name in NAMES if select(name, FILES[name])
    ]


def test_a_page_ends_after_many_rows(client, monkeypatch):
    monkeypatch.setattr(api, "ROWS_LOOKED_AT_MAX", 60)
    monkeypatch.setattr(api, "FIRST_ROWS", 30)
    monkeypatch.setattr(api, "ROWS_AT_ONCE", 30)
    members, count = pages(client, "glob=large.bin")
    assert [member["member"] for member in members] == ["large.bin"]
    assert count == 5


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 422),
        ("limit=1001", 422),
        ("limit=x", 422),
        ("limit=" + "9" * 5000, 422),
        ("limit=１", 422),
        ("min_size=-1", 422),
        ("glb=*.jpg", 422),
        ("media_type=image/jpg", 422),
        ("cursor=x", 422),
        ("cursor=000000000000-5", 409),
    ],
)
def test_wrong_parameters_are_refused(client, query, status):
    answer = client.ask(f"/api/v1/blobs/out/members?{quote(query, safe='=*/')}")
    assert answer.status == answer.json["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_index_without_facts_says_so(client):
    answer = client.ask("/api/v1/blobs/nested/bare/members?media_type=image/jpeg")
    assert answer.status == 422
    assert "media type" in answer.json["detail"]
    assert len(client.ask("/api/v1/blobs/nested/bare/members").json["members"]) == 1


def test_ids_of_other_versions_lead_nowhere(client):
    id_ = client.ask("/api/v1/blobs/out/members?limit=1").json["members"][0]["id"]
    version, _, row = id_.partition("-")
    for wrong in (f"{version}-9999", f"000000000000-{row}", "x", f"{id_}x", "-1", f"{version}--1"):
        assert client.ask(f"/api/v1/members/{wrong}").status == 404


# many references


def test_references_are_resolved_in_their_order(client):
    refs = [
        "out/cats/005.jpg",
        "none/x",
        "train/large.bin",
        "out/none",
        "nested/bare/x.jpg",
        "",
        "out/dogs/ü \udcff.png",
    ]
    found = post(client, "/api/v1/resolve", {"refs": refs}).json["members"]
    assert [member and f"{member['blob']}/{member['member']}" for member in found] == [
        "out/cats/005.jpg", None, "train/large.bin", None, "nested/bare/x.jpg", None, "out/dogs/ü \udcff.png",
    ]  # fmt: skip
    assert client.ask(found[-1]["url"]).body == PNG


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b"\xff", 400),
        ([], 422),
        ({"refs": "out/x"}, 422),
        ({"refs": [1]}, 422),
        ({"refs": ["x"] * 10_001}, 422),
        (b"x" * ((8 << 20) + 1), 413),
    ],
)
def test_wrong_bodies_are_refused(client, body, status):
    for target in ("/api/v1/resolve", "/batch"):
        if isinstance(body, dict) and target == "/batch":
            body = {"members": body["refs"]}
        answer = post(client, target, body)
        assert answer.status == status
        assert answer.json["status"] == status
        assert client.ask(target).status == 405


def test_a_batch_is_a_tar_in_the_order_asked(client):
    names = [*NAMES[::-3], "large.bin", NAMES[0], NAMES[0], "empty"]
    for prefix, body in (
        ("out/", {"members": [f"out/{name}" for name in names]}),
        ("", {"blob": "train", "members": names}),
    ):
        answer = post(client, "/batch", body)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/x-tar"
        assert int(answer.headers["content-length"]) == len(answer.body)
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            found = [(member.name, tar.extractfile(member).read()) for member in tar]
        assert found == [(prefix + name, FILES[name]) for name in names]
    assert len(post(client, "/batch", {"members": []}).body) == 1024


def test_a_batch_of_what_is_missing_is_an_error_and_no_tar(client):
    answer = post(client, "/batch", {"blob": "out", "members": ["empty", "none 1", "none 2"]})
    assert answer.status == 404
    assert "2 of 3" in answer.json["detail"]
    assert "'none 1', 'none 2'" in answer.json["detail"]
    for blob in (1, None):
        assert post(client, "/batch", {"blob": blob, "members": []}).status == 422


def test_a_batch_of_a_blob_that_changed_is_a_409(tmp_path):
    path = tmp_path / "out.tar"
    blobpack.pack(FILES, path, all_files=True)
    with blobpack.open(path) as blob, serving(gateway_app({"out": blob})) as client:
        body = {"blob": "out", "members": NAMES}
        assert post(client, "/batch", body).status == 200
        os.utime(path, ns=(0, 0))
        assert post(client, "/batch", body).status == 409


@pytest.fixture(scope="module")
def huge(tmp_path_factory):
    """A blob with one member of 20 MiB, and its name and payload."""
    path = tmp_path_factory.mktemp("huge") / "huge.tar"
    payload = os.urandom(20 << 20)
    blobpack.pack({"huge.bin": payload, "1.jpg": JPEG}, path, all_files=True)
    return path, payload


def test_a_large_payload_is_never_in_memory_as_a_whole(huge):
    path, payload = huge
    with blobpack.open(path) as blob:
        app = gateway_app({"huge": blob})
        names = ["1.jpg", "huge.bin", "huge.bin", "1.jpg"]
        wanted = tar_stream.look_up(
            app.services.blobs, [f"huge/{name}" for name in names], EVERYTHING
        )
        headers = [tar_stream.header_of(*pair) for pair in zip(names, wanted, strict=True)]
        pieces = list(tar_stream.pieces(app.services.payloads, wanted, headers))
        assert max(map(len, pieces)) <= tar_stream.LARGE_BYTES
        with serving(app) as client:
            found = post(client, "/batch", {"blob": "huge", "members": names})
        assert found.body == b"".join(pieces)
        assert int(found.headers["content-length"]) == len(found.body)
    with tarfile.open(fileobj=io.BytesIO(found.body)) as tar:
        read = [(member.name, tar.extractfile(member).read()) for member in tar]
    assert read == [(name, JPEG if name == "1.jpg" else payload) for name in names]


def test_a_damaged_large_payload_is_never_sent_to_its_end(huge, tmp_path):
    path, payload = huge
    damaged = tmp_path / "huge.tar"
    damaged.write_bytes(path.read_bytes().replace(payload[:9], b"9 bytes!!"))
    with blobpack.open(damaged) as blob, serving(gateway_app({"huge": blob})) as client:
        body = json.dumps({"blob": "huge", "members": ["huge.bin"]}).encode()
        request = b"POST /batch HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
        found = client.raw(request + body)
        assert found.startswith(b"HTTP/1.1 200 ")
        assert payload[-9:] not in found


def test_a_batch_for_a_client_that_went_away_ends(huge):
    path, _ = huge
    with blobpack.open(path) as blob:
        app = gateway_app({"huge": blob})
        with serving(app) as client:
            body = json.dumps({"blob": "huge", "members": ["huge.bin"] * 10_000}).encode()
            with socket.create_connection(("127.0.0.1", client.port), TIMEOUT_S) as connection:
                head = b"POST /batch HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
                connection.sendall(head + body)
                assert connection.recv(12) == b"HTTP/1.1 200"
                assert app.services.payloads.held_bytes
            # 200 GB would take a minute
            while app.services.payloads.held_bytes:
                client.ask("/healthz")


def test_a_client_that_goes_away_leaves_no_traceback(blobs, caplog):
    app = gateway_app(blobs)
    with serving(app) as client:
        for target in (b"/batch", b"/api/v1/resolve"):
            with socket.create_connection(("127.0.0.1", client.port), TIMEOUT_S) as connection:
                head = b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{" % target
                connection.sendall(head)
                client.ask("/healthz")
        for _ in range(100):
            answered = client.ask("/metrics").body
            if b'route="api",status="400"} 2' in answered:
                break
    assert b'route="api",status="400"} 2' in answered
    assert "Traceback" not in caplog.text


def test_batches_that_hold_too_many_bytes_are_refused(huge, monkeypatch):
    path, _ = huge
    with blobpack.open(path) as blob, serving(gateway_app({"huge": blob})) as client:
        monkeypatch.setattr(payloads, "HELD_BYTES_MAX", tar_stream.HELD_BYTES - 1)
        answer = post(client, "/batch", {"members": ["huge/1.jpg"]})
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        monkeypatch.undo()
        for _ in range(3):
            assert post(client, "/batch", {"members": ["huge/1.jpg"]}).status == 200


# whole files


def test_a_blob_is_readable_as_a_file(client, folder):
    tar = (folder / "out.tar").read_bytes()
    answer = client.ask("/raw/out")
    assert answer.body == tar
    assert answer.headers["access-control-allow-origin"] == "*"
    part = client.ask("/raw/out", Range="bytes=-100", If_Range=answer.headers["etag"])
    assert (part.status, part.body) == (206, tar[-100:])
    assert client.ask("/raw/out", "HEAD").headers["content-length"] == str(len(tar))
    assert client.ask("/raw/out", If_None_Match=answer.headers["etag"]).status == 304
    assert client.ask("/raw/out.idx").status == 404
    for target in (
        "/raw/none",
        "/raw/",
        "/raw",
        "/raw/train",
        "/raw/train/none.tar",
        "/raw/train/../out",
    ):
        assert client.ask(target).status == 404


def test_readers_of_http_read_what_is_served(client, blobs):
    """blobpack itself reads the files as any blob and collection behind HTTP."""
    with blobpack.open(f"{client.url}/raw/out") as blob:
        assert blob.read("dogs/[1].png") == PNG
        assert list(blob) == NAMES
    with blobpack.open_collection(f"{client.url}/raw/train/collection.idx") as collection:
        assert len(collection.blobs) == len(blobs["train"].blobs)
        assert list(collection.read_many(NAMES)) == list(FILES.values())
    # an index that is not inside is served beside the blob
    with blobpack.open_blob(
        f"{client.url}/raw/nested/bare", f"{client.url}/raw/nested/bare.idx"
    ) as blob:
        assert blob.read("x.jpg") == JPEG


def test_the_gallery_shows_every_blob(client):
    answer = client.ask("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for path in ("raw/out", "raw/nested/bare", "raw/train/collection.idx"):
        assert json.dumps(path).encode() in answer.body
        assert client.ask(f"/{path}", "HEAD").status == 200


# what the server says of itself


def test_blobs_may_have_names_that_are_not_utf_8(blobs):
    with serving(gateway_app({"a \udcff": blobs["out"]})) as client:
        found = client.ask("/api/v1/blobs").json["blobs"][0]
        assert found["url"] == "/b/a%20%FF/"
        shown = client.ask("/api/v1/blobs/a%20%FF/members?limit=1")
        # Starlette's router decodes paths, and loses such bytes
        assert shown.status in (200, 404)
        assert client.ask(found["url"] + NAMES[0]).body == FILES[NAMES[0]]
        assert b"raw/a%20%FF" in client.ask("/").body
        assert client.ask("/metrics").status == 200
        resolved = json.dumps({"refs": [f"a \udcff/{NAMES[0]}"]}).encode()
        member = client.ask("/api/v1/resolve", "POST", resolved).json["members"][0]
        assert client.ask(member["url"]).body == FILES[NAMES[0]]


def test_health_and_unknown_routes(client):
    assert client.ask("/healthz").json == {"status": "ok"}
    for target in ("/none", "/api", "/api/v1", "/api/v2/blobs", "/b", "/k", "/k/x"):
        assert client.ask(target).status == 404
    assert client.ask("/healthz", "POST", b"").status == 405


def test_metrics_are_those_of_prometheus(blobs):
    with serving(gateway_app({'a"b\\c': blobs["out"], "out": blobs["out"]})) as client:
        for _ in range(3):
            client.ask("/b/out/cats/001.jpg")
        client.ask("/b/out/none")
        client.ask("/b/out/large.bin")
        answer = client.ask("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {
        family.name: family for family in text_string_to_metric_families(answer.body.decode())
    }
    answers = {
        (s.labels["route"], s.labels["status"]): s.value
        for s in families["blobpack_answers"].samples
    }
    assert answers == {("image", "200"): 4, ("image", "404"): 1}
    sent = {s.labels["route"]: s.value for s in families["blobpack_sent_bytes"].samples}
    assert sent["image"] > 3 * len(FILES["cats/001.jpg"]) + len(FILES["large.bin"])
    reads = {
        s.name: s.value for s in families["blobpack_read_seconds"].samples if "le" not in s.labels
    }
    assert reads["blobpack_read_seconds_count"] == sum(
        s.value for s in families["blobpack_thread_reads"].samples
    )
    assert {s.labels["blob"]: s.value for s in families["blobpack_members"].samples} == {
        'a"b\\c': 254,
        "out": 254,
    }


def test_the_description_of_the_routes_is_openapi(client):
    described = client.ask("/openapi.json").json
    openapi_spec_validator.validate(described)
    assert described["openapi"].startswith("3.1")
    assert described["servers"] == [{"url": "/"}]
    listed = set(described["paths"])
    assert listed == {
        "/", "/healthz", "/metrics", "/openapi.json", "/b/{blob}/{member}", "/k/{token}/b/{blob}/{member}",
        "/raw/{blob}", "/t/{size}/{blob}/{member}", "/iiif/{identifier}", "/iiif/{identifier}/info.json",
        "/iiif/{identifier}/{region}/{size}/{rotation}/{quality}.{format}", "/batch", "/api/v1/blobs",
        "/api/v1/blobs/{blob}", "/api/v1/blobs/{blob}/members", "/api/v1/members/{id}", "/api/v1/resolve",
    }  # fmt: skip
    schemas = described["components"]["schemas"]
    resolver = {
        "$defs": schemas,
        **json.loads(json.dumps(schemas).replace("#/components/schemas/", "#/$defs/")),
    }

    def check(name, value):
        moved = json.loads(json.dumps(schemas).replace("#/components/schemas/", "#/$defs/"))
        jsonschema.validate(value, {"$ref": f"#/$defs/{name}", "$defs": moved})

    assert resolver
    check("Blobs", client.ask("/api/v1/blobs").json)
    check("Blob", client.ask("/api/v1/blobs/out").json)
    check("Members", client.ask("/api/v1/blobs/out/members?limit=3").json)
    check("Resolved", post(client, "/api/v1/resolve", {"refs": ["out/empty", "x"]}).json)
    check("Problem", client.ask("/b/none/none").json)
    check("Problem", client.ask("/api/v1/blobs/out/members?limit=x").json)
    with pytest.raises(jsonschema.ValidationError):
        check("Member", {"member": "x"})


# within another application


@pytest.mark.parametrize("prefix", ["/images", "/a/b", "/with%20blank"])
def test_the_application_can_be_mounted_in_another_one(blobs, prefix):
    async def other(request):
        return PlainTextResponse("other")

    from urllib.parse import unquote

    inner = gateway_app(blobs, keys={"key": "secret"})
    app = Starlette(routes=[Route("/other", other), Mount(unquote(prefix), inner)])
    token = inner.services.access.keys.token("out")
    with serving(app) as client:
        assert client.ask("/other").body == b"other"
        for root in (prefix, f"{prefix}/k/{token}"):
            assert client.ask(f"{root}/b/out/cats/001.jpg").body == FILES["cats/001.jpg"]
            assert client.ask(f"{root}/b/out/dogs%2F%5B1%5D.png").body == PNG
            assert client.ask(f"{root}/healthz").status == 200
            assert client.ask(f"{root}/openapi.json").status == 200
            found = client.ask(f"{root}/api/v1/blobs/out/members?limit=1").json["members"][0]
            assert found["url"] == f"{root}/b/out/cats/000.jpg"
            assert client.ask(found["url"]).body == FILES["cats/000.jpg"]
        assert client.ask("/b/out/cats/001.jpg").status == 404
        assert client.ask(f"{prefix}x/b/out/cats/001.jpg").status == 404


def test_the_path_is_found_without_the_raw_one(blobs):
    """Some ASGI servers give the decoded path only."""
    inner = gateway_app(blobs)

    async def without_raw(scope, receive, send):
        await inner(
            {name: value for name, value in scope.items() if name != "raw_path"}, receive, send
        )

    with serving(without_raw) as client:
        assert client.ask("/b/out/dogs/%5B1%5D.png").body == PNG
        assert client.ask("/b/out/100%25").status == 404
