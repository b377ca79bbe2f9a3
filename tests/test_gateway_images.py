"""Payloads over HTTP: a real server, real sockets."""

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from gatewayserver import serving

import blobpack
from blobpack.gateway import answers
from blobpack.gateway.app import gateway_app
from blobpack.gateway.payloads import LOOK_EVERY_S
from blobpack.opening.blob import Blob
from blobpack.stores.memory import MemoryStore

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
NAMES = [
    "cats/1.jpg",
    "a b.jpg",
    "a+b.jpg",
    "q?x=1#f.jpg",
    "100%.jpg",
    "%2F.jpg",
    "Käse/ü.jpg",
    "bytes\udcff\udc80.jpg",
    "double//slash.jpg",
    "dot/./x.jpg",
    "semi;colon,comma&amp='\".jpg",
    "new\nline\t.jpg",
    "back\\slash.jpg",
    "out/cats/1.jpg",
    "~tilde|pipe<>{}^`.jpg",
    "日本.jpg",
]
# names that blobpack's own pack refuses, and tar has
STRANGE = ["../up.jpg", "a/../../etc/passwd", "/absolute.jpg", "./here.jpg", ".."]
FILES = {name: JPEG + name.encode("utf-8", "surrogateescape") for name in NAMES} | {
    "drawing.svg": SVG,
    "page.html": b"<script>alert(1)</script>",
    "notes.txt": b"plain",
    "data": b"\0\1\2",
    "wrong.jpg": b"<html><script>alert(1)</script>",
    "empty.jpg": b"",
    "large.bin": os.urandom((1 << 20) + 77),
}


class CountingStore(MemoryStore):
    """A blob in memory that counts its reads."""

    reads = 0

    def fetch(self, start: int, end: int) -> bytes:
        self.reads += 1
        return super().fetch(start, end)

    def read_if_ready(self, start: int, end: int) -> bytes | None:
        self.reads += 1
        return super().read_if_ready(start, end)


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    blobpack.pack(FILES, folder / "out.tar", all_files=True)
    strange(folder / "strange.tar")
    opened = {
        "out": blobpack.open(folder / "out.tar"),
        "nested/name": blobpack.open(folder / "out.tar"),
        "strange": blobpack.open(folder / "strange.tar", index=dated(folder / "strange.tar")),
        "counted": Blob(
            CountingStore((folder / "out.tar").read_bytes()), blobpack.Index.load(saved(folder))
        ),
    }
    yield opened
    for blob in opened.values():
        blob.close()


def strange(path):
    import io
    import tarfile

    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in STRANGE:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(JPEG), 1_600_000_000
            tar.addfile(member, io.BytesIO(JPEG))


def dated(path):
    """An index with times, and without media types."""
    return blobpack.Index(
        blobpack.Member(member.name, member.offset_start, member.offset_end, mtime=1_600_000_000)
        for member in blobpack.scan(path)
    )


def saved(folder):
    with blobpack.open(folder / "out.tar") as blob:
        blob.index.save(folder / "saved.idx")
    return folder / "saved.idx"


@pytest.fixture(scope="module", params=["asgi", "ready"])
def client(blobs, request):
    """The application alone, and behind the short way of `blobpack serve` for plain GETs."""
    app = gateway_app(blobs)
    with serving(app, app.ready_answer if request.param == "ready" else None) as client:
        yield client


def url_of(name: str, blob: str = "out") -> str:
    return f"/b/{blob}/{quote(name.encode('utf-8', 'surrogateescape'), safe='/')}"


# the payload and its fields


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_any_kind_leads_to_its_member(client, name):
    packed = name.encode("utf-8", "surrogateescape")
    everything = "".join(f"%{byte:02x}" for byte in packed)
    for target in (url_of(name), f"/b/out/{everything}", f"/b/out/{quote(packed, safe='')}"):
        answer = client.ask(target)
        assert (answer.status, answer.body) == (200, FILES[name])
    shown = packed.rpartition(b"/")[2].decode("utf-8", "replace")
    assert (
        answer.headers["content-disposition"]
        == f"inline; filename*=UTF-8''{quote(shown, safe='-_.~')}"
    )
    assert client.ask(url_of(name, "nested/name")).body == FILES[name]


@pytest.mark.parametrize("name", STRANGE)
def test_names_that_lead_out_of_a_folder_are_names_only(client, name):
    encoded = "".join(f"%{byte:02x}" for byte in name.encode())
    assert client.ask(f"/b/strange/{encoded}").body == JPEG


@pytest.mark.parametrize(
    "target",
    [
        "/b/out/none.jpg",
        "/b/none/cats/1.jpg",
        "/b/out/",
        "/b/out",
        "/b/",
        "/b/out//cats/1.jpg",
        "/b//out/cats/1.jpg",
        "/b/out/cats/1.jpg/",
        "/b/out/cats/1.jpg%00",
        "/b/out/cats/1.jpg%00.png",
        "/b/out/%00",
        "/b/out/CATS/1.jpg",
        "/b/out/cats%252F1.jpg",
        "/b/out/cats%5C1.jpg",
        "/b/out/../out/cats/1.jpg",
        "/b/out/cats/../cats/1.jpg",
        "/b/out/%2e%2e/%2e%2e/etc/passwd",
        "/b/../../../../etc/passwd",
        "/b/out/cats/1.jpg;x",
        "/b/out/%",
        "/b/out/%zz",
        "/b/out/%ff",
        "/b/out/" + "x" * 30_000,
        "/b/out/a%20b",
    ],
)
def test_what_names_no_member_is_a_404_with_one_body(client, target):
    answer = client.ask(target)
    assert answer.status == 404
    assert answer.body == client.ask("/b/out/none").body
    assert answer.json["status"] == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["access-control-allow-origin"] == "*"


def test_a_query_is_ignored(client):
    assert client.ask("/b/out/cats/1.jpg?x=/../y#z").body == FILES["cats/1.jpg"]


def test_an_image_has_the_fields_that_browsers_and_caches_need(client):
    answer = client.ask("/b/out/cats/1.jpg")
    etag = answer.headers.pop("etag")
    assert etag.startswith('"')
    assert etag.endswith('"')
    assert "date" in answer.headers
    del answer.headers["date"]
    assert answer.headers == {
        "access-control-allow-origin": "*",
        "timing-allow-origin": "*",
        "access-control-expose-headers": "ETag, Content-Range, Accept-Ranges",
        "cross-origin-resource-policy": "cross-origin",
        "accept-ranges": "bytes",
        "cache-control": "public, no-cache",
        "content-type": "image/jpeg",
        "x-content-type-options": "nosniff",
        "content-length": str(len(FILES["cats/1.jpg"])),
        "content-disposition": "inline; filename*=UTF-8''1.jpg",
    }
    # with an Origin or without it
    assert (
        client.ask("/b/out/cats/1.jpg", Origin="https://tool").headers[
            "access-control-allow-origin"
        ]
        == "*"
    )


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("drawing.svg", "image/svg+xml"),
        ("page.html", "text/html"),
        ("notes.txt", "text/plain"),
        ("data", "application/octet-stream"),
        ("wrong.jpg", "image/jpeg"),
        ("large.bin", "application/octet-stream"),
    ],
)
def test_what_may_hold_a_script_is_neutralised(client, name, media_type):
    for method in ("GET", "HEAD"):
        answer = client.ask(url_of(name), method)
        assert answer.headers["content-type"] == media_type
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers.get("content-security-policy", "")
        assert ("sandbox" in policy and "default-src 'none'" in policy) == (
            media_type in ("image/svg+xml", "text/html")
        )


@pytest.mark.parametrize(
    ("media_type", "is_harmless"),
    [
        ("image/jpeg", True),
        ("Image/JPEG; q=1", True),
        ("text/plain; charset=utf-8", True),
        ("image/svg+xml; charset=utf-8", False),
        ("image/SVG+xml ", False),
        ("image/other+xml", False),
        ("image/png, text/html", False),
        ("image/png; a=,text/html", False),
        ("text/plain,text/html", False),
        ("image/", False),
        ("", False),
        ("multipart/x-mixed-replace", False),
    ],
)
def test_only_what_a_browser_runs_no_script_of_is_not_neutralised(media_type, is_harmless):
    fields = dict(answers.type_fields(media_type))
    assert (b"content-security-policy" not in fields) == is_harmless


def test_without_facts_the_type_comes_from_the_content(client, blobs):
    answer = client.ask("/b/strange/%2e%2e%2fup.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["last-modified"] == "Sun, 13 Sep 2020 12:26:40 GMT"
    assert client.ask("/b/strange/%2e%2e").headers["content-type"] == "image/jpeg"
    # HEAD reads nothing, and goes by the name
    head = client.ask("/b/strange/%2e%2e", "HEAD")
    assert head.headers["content-type"] == "application/octet-stream"


def test_a_pinned_blob_may_be_cached_for_ever(client, blobs):
    version = gateway_app(blobs).services.blobs.get("out").version
    answer = client.ask(f"/b/out@{version}/cats/1.jpg")
    assert answer.body == FILES["cats/1.jpg"]
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert client.ask("/b/out@000000000000/cats/1.jpg").status == 404
    with serving(gateway_app({"out": blobs["out"]}, pinned=True)) as pinned:
        assert "immutable" in pinned.ask("/b/out/cats/1.jpg").headers["cache-control"]


def test_methods(client):
    head = client.ask("/b/out/cats/1.jpg", "HEAD")
    get = client.ask("/b/out/cats/1.jpg")
    assert (head.status, head.body) == (200, b"")
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}
    assert client.ask("/b/out/none", "HEAD").status == 404
    preflight = client.ask(
        "/b/out/cats/1.jpg",
        "OPTIONS",
        Origin="https://tool",
        Access_Control_Request_Method="GET",
        Access_Control_Request_Headers="range",
    )
    assert preflight.status == 204
    assert "GET" in preflight.headers["access-control-allow-methods"]
    for field in ("Authorization", "Range", "If-None-Match", "If-Range"):
        assert field in preflight.headers["access-control-allow-headers"]
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        answer = client.ask("/b/out/cats/1.jpg", method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


# ranges and conditions


@pytest.mark.parametrize("name", ["cats/1.jpg", "large.bin"])
@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=5-", slice(5, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=0-99999999", slice(None)),
        ("bytes=100-100", slice(100, 101)),
    ],
)
def test_a_range_is_a_206(client, name, asked, part):
    payload = FILES[name]
    answer = client.ask(url_of(name), Range=asked)
    assert (answer.status, answer.body) == (206, payload[part])
    start, end, _ = part.indices(len(payload))
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(payload)}"
    assert answer.headers["content-length"] == str(end - start)
    assert client.ask(url_of(name), "HEAD", Range=asked).status == 200


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "bytes=5-2", "bytes=x", "lines=0-1"])
def test_several_ranges_and_malformed_ones_get_everything(client, asked):
    answer = client.ask("/b/out/cats/1.jpg", Range=asked)
    assert (answer.status, answer.body) == (200, FILES["cats/1.jpg"])


def test_a_range_behind_the_end_is_a_416(client):
    size = len(FILES["cats/1.jpg"])
    answer = client.ask("/b/out/cats/1.jpg", Range=f"bytes={size}-")
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")
    assert answer.json["status"] == 416
    assert client.ask("/b/out/empty.jpg", Range="bytes=0-").status == 416
    assert client.ask("/b/out/empty.jpg").body == b""


def test_conditions(client):
    etag = client.ask("/b/out/cats/1.jpg").headers["etag"]
    for tags in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = client.ask("/b/out/cats/1.jpg", If_None_Match=tags)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "content-length" not in answer.headers
    assert client.ask("/b/out/cats/1.jpg", If_None_Match='"x"').status == 200
    assert client.ask("/b/out/cats/1.jpg", If_Match='"x"').status == 412
    assert client.ask("/b/out/cats/1.jpg", Range="bytes=0-1", If_Range=etag).status == 206
    assert client.ask("/b/out/cats/1.jpg", Range="bytes=0-1", If_Range='"x"').status == 200
    date = client.ask("/b/strange/%2e%2e").headers["last-modified"]
    assert client.ask("/b/strange/%2e%2e", If_Modified_Since=date).status == 304
    assert client.ask("/b/strange/%2e%2e", Range="bytes=0-1", If_Range=date).status == 206


def test_what_needs_no_payload_reads_nothing(client, blobs):
    store = blobs["counted"].store
    target = "/b/counted/cats/1.jpg"
    etag = client.ask(target).headers["etag"]
    store.reads = 0
    assert client.ask(target, "HEAD").status == 200
    assert client.ask(target, If_None_Match=etag).status == 304
    assert client.ask(target, "HEAD", If_None_Match=etag).status == 304
    assert client.ask(target, If_Match='"x"').status == 412
    assert client.ask(target, Range="bytes=9999999-").status == 416
    assert client.ask("/b/counted/none").status == 404
    assert client.ask(target, "OPTIONS").status == 204
    assert store.reads == 0
    assert client.ask(target).status == 200
    assert store.reads == 1


# a blob that changes while it is served


@pytest.fixture
def changing(tmp_path):
    path = tmp_path / "out.tar"
    blobpack.pack(FILES, path, all_files=True)
    with blobpack.open(path) as blob, serving(gateway_app({"out": blob})) as client:
        yield client, path


@pytest.mark.parametrize("how", ["replaced", "overwritten", "cut", "removed", "appended"])
def test_a_local_blob_that_changes_is_a_409(changing, how, tmp_path):
    client, path = changing
    etag = client.ask("/b/out/cats/1.jpg").headers["etag"]
    if how == "replaced":
        blobpack.pack({"cats/1.jpg": JPEG}, path, force=True)
    elif how == "overwritten":
        with path.open("r+b") as file:
            file.write(os.urandom(path.stat().st_size))
    elif how == "cut":
        os.truncate(path, 700)
    elif how == "removed":
        path.unlink()
    else:
        blobpack.append(path, {"more.jpg": JPEG})
    time.sleep(LOOK_EVERY_S)
    for method, headers in (
        ("GET", {}),
        ("GET", {"Range": "bytes=0-9"}),
        ("GET", {"If_None_Match": etag}),
        ("HEAD", {}),
    ):
        answer = client.ask("/b/out/cats/1.jpg", method, **headers)
        if how == "appended" and (method, headers) == ("GET", {}):
            # the file is the one that was opened, and the checksum is right
            assert answer.body == FILES["cats/1.jpg"]
            continue
        assert answer.status == 409, (method, headers)
        assert "etag" not in answer.headers
    answer = client.ask("/b/out/cats/1.jpg", Range="bytes=0-9")
    assert "has changed" in answer.json["detail"]
    # no path of the server's own is shown
    assert str(tmp_path) not in answer.body.decode()
    assert client.ask("/b/out/large.bin").status == 409
    assert client.ask("/healthz").status == 200


def test_bytes_that_changed_unnoticed_are_never_sent(changing):
    client, path = changing
    with blobpack.open(path) as blob:
        member = blob.index["cats/1.jpg"]
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(member.offset_start + 9)
        file.write(b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    answer = client.ask("/b/out/cats/1.jpg")
    assert answer.status == 503
    assert "not those" in answer.json["detail"]
    assert answer.headers["retry-after"] == "1"
    assert client.ask("/b/out/a%20b.jpg").status == 200


def test_an_object_in_s3_that_changes_is_a_409(bucket):
    url = f"s3://{bucket}/out.tar"
    blobpack.pack(FILES, url, all_files=True)
    with blobpack.open(url) as blob, serving(gateway_app({"out": blob})) as client:
        for name in ("cats/1.jpg", "large.bin", "empty.jpg"):
            assert client.ask(url_of(name)).body == FILES[name]
        requests = blob.stats.requests
        assert client.ask("/b/out/cats/1.jpg", "HEAD").status == 200
        assert blob.stats.requests == requests
        assert client.ask("/b/out/cats/1.jpg", Range="bytes=1-3").body == FILES["cats/1.jpg"][1:4]
        assert blob.stats.requests == requests + 1
        blobpack.pack({**FILES, "a b.jpg": JPEG}, url, all_files=True, force=True)
        for headers in ({}, {"Range": "bytes=0-9"}):
            answer = client.ask("/b/out/cats/1.jpg", **headers)
            assert answer.status == 409
            assert bucket not in answer.body.decode()
        assert client.ask("/b/out/large.bin").status == 409


# many clients


def test_a_slow_reader_holds_up_nobody(client):
    with socket.create_connection(("127.0.0.1", client.port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /b/out/large.bin HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        time.sleep(0.2)
        for name in NAMES:
            assert client.ask(url_of(name)).body == FILES[name]
        assert client.ask("/b/out/large.bin").body == FILES["large.bin"]


def test_a_client_that_goes_away_leaves_nothing_behind(client):
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", client.port)) as gone:
            gone.sendall(b"GET /b/out/large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            gone.recv(100)
    deadline = time.monotonic() + 120
    while "\nblobpack_held_bytes 0\n" not in client.ask("/metrics").body.decode():
        assert time.monotonic() < deadline


def test_idle_connections_take_no_place(client):
    idle = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(300)]
    for connection in idle[::50]:
        connection.sendall(b"GET /b/out/cats/1.jpg HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.ask("/b/out/cats/1.jpg").status == 200
    for connection in idle[::50]:
        assert connection.recv(12) == b"HTTP/1.1 200"
    for connection in idle:
        connection.close()


def test_requests_at_once_get_what_they_asked_for(client):
    names = NAMES * 10
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda name: client.ask(url_of(name)).body, names))
    assert answers == [FILES[name] for name in names]


def test_two_clients_that_want_one_member_cause_one_upstream_read(tmp_path):
    class Slow(MemoryStore):
        """A fake remote store: its reads wait until the test lets them go."""

        is_remote = True
        reads = 0
        go = threading.Event()

        def fetch(self, start: int, end: int) -> bytes:
            self.reads += 1
            assert self.go.wait(120)
            return super().fetch(start, end)

        def read_if_ready(self, start: int, end: int) -> None:
            return None

    blobpack.pack(FILES, tmp_path / "out.tar", all_files=True)
    with blobpack.open(tmp_path / "out.tar") as local:
        store = Slow((tmp_path / "out.tar").read_bytes())
        app = gateway_app({"slow": Blob(store, local.index), "out": local})
        with serving(app) as client, ThreadPoolExecutor(9) as threads:
            answers = [threads.submit(client.ask, "/b/slow/cats/1.jpg") for _ in range(9)]
            (server,) = client.servers._servers
            deadline = time.monotonic() + 120
            while store.reads == 0 or len(server.server_state.tasks) < 9:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            # while they wait, all others are answered; after that, the last of the nine waits, too
            assert client.ask("/b/out/cats/1.jpg").status == 200
            assert client.ask("/b/slow/cats/1.jpg", "HEAD").status == 200
            store.go.set()
            assert {answer.result().body for answer in answers} == {FILES["cats/1.jpg"]}
    assert store.reads == 1


# below the level of HTTP libraries


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /b/out/cats/1.jpg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET /b/out/cats/1.jpg HTTP/1.0\r\n\r\n", b"200"),
        (b"GET http://x/b/out/cats/1.jpg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET /b/out/\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"40"),
        (b"GET /b/out/a b.jpg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"400"),
        (b"GET b/out/cats/1.jpg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"400"),
        (b"GET\0 / HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET /b/out/cats/1.jpg HTTP/1.1\r\nRange\r\n\r\n", b"400"),
        (
            b"GET /b/out/cats/1.jpg HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"400",
        ),
        (
            b"GET /b/out/cats/1.jpg HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes=0-1\r\nRange: bytes=2-3\r\n\r\n",
            b"200",
        ),
        (
            b"GET /b/out/cats/1.jpg HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes="
            + b"9" * 20_000
            + b"-\r\n\r\n",
            b"416",
        ),
    ],
)
def test_requests_of_any_form_get_the_proper_status(client, request_line, status):
    assert client.raw(request_line).split(b" ")[1].startswith(status)


def test_pipelined_requests_are_answered_in_order(client):
    asked = b"".join(
        b"GET /b/out/cats/1.jpg HTTP/1.1\r\nHost: x\r\nRange: bytes=%d-%d\r\n\r\n" % (n, n)
        for n in range(20)
    )
    found = client.raw(asked + b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    bodies = [part.partition(b"\r\n\r\n")[2] for part in found.split(b"HTTP/1.1 ")[1:21]]
    assert bodies == [FILES["cats/1.jpg"][n : n + 1] for n in range(20)]
