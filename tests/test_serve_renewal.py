"""Blobs that change while they are served: members that live on are answered, new ones appear, and no byte is ever wrong."""

import io
import os
import random
import shutil
import tarfile
import threading
import time
from contextlib import ExitStack, contextmanager
from xml.etree import ElementTree as ET

import pytest
from gatewayserver import TIMEOUT_S, serving

import blobpack
from blobpack.checksum import crc32c
from blobpack.gateway.app import gateway_app
from blobpack.gateway.s3.face import s3_app
from blobpack.gateway.tokens import Keys

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(200))
FILES = {f"cats/{i}.jpg": JPEG + b"%d" % i for i in range(9)} | {"large.bin": os.urandom(700_000)}
OLD = "/b/out/cats/1.jpg"


@contextmanager
def served(path, **options):
    """Serve a blob by both faces, and open it anew when it changes."""
    with ExitStack() as stack:
        blob = stack.enter_context(blobpack.open(path))
        opened = []

        def reopen(name):
            assert name == "out"
            opened.append(blobpack.open(path))
            return opened[-1]

        app = gateway_app({"out": blob}, reopen=reopen, **options)
        client = stack.enter_context(serving(app, app.ready_answer))
        s3 = stack.enter_context(serving(s3_app(app.services.blobs, Keys({}), unsigned=True)))
        yield client, s3
        for one in opened:
            one.close()


@pytest.fixture
def path(tmp_path):
    blobpack.pack(FILES, tmp_path / "out.tar", all_files=True)
    return tmp_path / "out.tar"


def until(condition):
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def until_there(client, target, **headers):
    """Ask until the answer is a 200 or 206, and return it."""
    return until(lambda: (found := client.ask(target, **headers)).status in (200, 206) and found)


def listed(s3):
    root = ET.fromstring(s3.ask("/out?list-type=2").body)
    return [key.text for key in root.iter("{http://s3.amazonaws.com/doc/2006-03-01/}Key")]


def test_members_live_through_an_append_and_new_ones_appear(path):
    with served(path) as (client, s3):
        assert client.ask("/b/out/more.jpg").status == 404
        assert sorted(listed(s3)) == sorted(FILES)
        blobpack.append(path, {"more.jpg": JPEG})
        assert client.ask(OLD).body == FILES["cats/1.jpg"]
        assert client.ask(OLD, Range="bytes=4-9").body == FILES["cats/1.jpg"][4:10]
        assert client.ask(OLD, "HEAD").status == 200
        assert client.ask("/b/out/large.bin").body == FILES["large.bin"]
        assert s3.ask("/out/cats/1.jpg", Range="bytes=4-9").body == FILES["cats/1.jpg"][4:10]
        assert until_there(client, "/b/out/more.jpg").body == JPEG
        assert client.ask("/api/v1/blobs").json["blobs"][0]["members"] == len(FILES) + 1
        assert sorted(listed(s3)) == sorted([*FILES, "more.jpg"])
        assert client.ask("/raw/out").body == path.read_bytes()
        body = b'{"blob": "out", "members": ["more.jpg", "cats/1.jpg"]}'
        answer = client.ask("/batch", "POST", body)
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            assert tar.getnames() == ["more.jpg", "cats/1.jpg"]


def test_a_blob_that_was_replaced_is_opened_anew(path, tmp_path):
    with served(path) as (client, s3):
        etag = client.ask(OLD).headers["etag"]
        version = client.ask("/api/v1/blobs").json["blobs"][0]["version"]
        blobpack.pack({"cats/1.jpg": JPEG + b"new"}, tmp_path / "new.tar")
        os.rename(tmp_path / "new.tar", path)
        # the first request for a range, or after a while any request, meets the change
        assert client.ask(OLD, Range="bytes=-3").body == b"new"
        answer = client.ask(OLD)
        assert answer.body == JPEG + b"new"
        assert answer.headers["etag"] != etag
        assert client.ask(OLD, If_Match=etag).status == 412
        assert client.ask(OLD, If_None_Match=etag).status == 200
        # the URL of the old version leads to no other one
        assert client.ask(f"/b/out@{version}/cats/1.jpg").status == 404
        assert client.ask("/b/out/cats/2.jpg").status == 404
        assert listed(s3) == ["cats/1.jpg"]
        assert s3.ask("/out/cats/1.jpg").body == JPEG + b"new"


def test_an_answer_that_meets_the_change_is_kept_for_its_client_alone(path, tmp_path):
    keys = Keys({"new": "secret"})
    with served(path, keys=keys, require_token=True) as (client, _):
        fields = {"Range": "bytes=-3", "Authorization": f"Bearer {keys.token('*')}"}
        assert client.ask(OLD, **fields).headers["cache-control"].startswith("private")
        blobpack.pack({"cats/1.jpg": JPEG + b"new"}, tmp_path / "new.tar")
        os.rename(tmp_path / "new.tar", path)
        answer = client.ask(OLD, **fields)
        assert answer.body == b"new"
        assert answer.headers["cache-control"].startswith("private")


@pytest.mark.parametrize("how", ["removed", "cut", "no index", "no tar"])
def test_what_is_no_blob_is_a_409_until_there_is_one(path, how, tmp_path):
    whole = path.read_bytes()
    with served(path) as (client, _):
        assert client.ask(OLD, Range="bytes=0-3").status == 206
        if how == "removed":
            path.unlink()
        elif how == "cut":
            os.truncate(path, 700)
        elif how == "no index":
            blobpack.pack(FILES, path, index="none", all_files=True, force=True)
        else:
            path.write_bytes(os.urandom(len(whole)))
        for _ in range(3):
            assert client.ask(OLD, Range="bytes=0-3").status == 409
        (tmp_path / "new.tar").write_bytes(whole)
        os.rename(tmp_path / "new.tar", path)
        assert until_there(client, OLD, Range="bytes=0-3").body == JPEG[:4]


def test_while_an_append_is_at_work_whole_members_are_answered(path):
    begun, ended = threading.Event(), threading.Event()

    def members():
        yield "more.jpg", os.urandom(1 << 20)
        begun.set()
        assert ended.wait(TIMEOUT_S)
        yield "last.jpg", JPEG

    with served(path) as (client, s3):
        assert client.ask(OLD, Range="bytes=0-3").status == 206
        appending = threading.Thread(target=blobpack.append, args=(path, members()))
        appending.start()
        assert begun.wait(TIMEOUT_S)
        for name in FILES:
            # a large payload is sent in pieces, whose checksum is known at the end only
            if name != "large.bin":
                assert client.ask(f"/b/out/{name}").body == FILES[name]
                assert s3.ask(f"/out/{name}").body == FILES[name]
        ended.set()
        appending.join()
        assert until_there(client, "/b/out/last.jpg").body == JPEG
        assert client.ask("/b/out/large.bin").body == FILES["large.bin"]


def test_a_pinned_blob_is_never_opened_anew(path):
    with served(path, pinned=True) as (client, _):
        assert client.ask(OLD, Range="bytes=0-3").status == 206
        blobpack.pack({"cats/1.jpg": JPEG + b"new"}, path, force=True)
        assert client.ask(OLD, Range="bytes=0-3").status == 409


def test_a_blob_with_its_index_beside_it_is_opened_anew(tmp_path):
    path = tmp_path / "out.tar"
    blobpack.pack(FILES, path, index="sidecar", all_files=True)
    with served(path) as (client, _):
        assert client.ask("/raw/out.idx").body == (tmp_path / "out.tar.idx").read_bytes()
        blobpack.append(path, {"more.jpg": JPEG})
        assert client.ask(OLD, "HEAD").status == 200
        assert client.ask("/b/out/more.jpg").body == JPEG
        with blobpack.open(path) as blob:
            assert len(blob.index) == len(FILES) + 1
        assert client.ask("/raw/out.idx").status == 200


# many clients, and a blob that changes all the time

SIZES = {f"{i}.bin": size for i, size in enumerate((10, 3000, 70_000, 300_000, 900_000))}


def payload_of(name, version):
    """A payload whose every byte shows its version."""
    return random.Random(f"{name} {version}").randbytes(SIZES[name])


def put_version(folder, version):
    """Make the blob of a version: replaced whole, or written into the file that lies there."""
    files = {name: payload_of(name, version) for name in SIZES}
    blobpack.pack(files, folder / "new.tar", all_files=True, force=True)
    if version % 3 == 1:
        shutil.copyfile(folder / "new.tar", folder / "out.tar")
    else:
        os.replace(folder / "new.tar", folder / "out.tar")


def test_no_byte_is_wrong_while_a_blob_changes_under_many_clients(tmp_path):
    versions = 12
    right = {
        (name, crc32c(payload_of(name, version))) for name in SIZES for version in range(versions)
    }
    put_version(tmp_path, 0)
    found, failures, ended = [], [], threading.Event()

    def ask(ports, seed):
        generator = random.Random(seed)
        while not ended.is_set():
            name = generator.choice(list(SIZES))
            client, s3 = ports
            start = generator.choice([None, generator.randrange(SIZES[name])])
            headers = {} if start is None else {"Range": f"bytes={start}-"}
            try:
                answer = (
                    client.ask(f"/b/out/{name}", **headers)
                    if seed % 2
                    else s3.ask(f"/out/{name}", **headers)
                )
            # a payload that is being sent when the blob changes is cut
            except (OSError, ValueError) as exc:
                failures.append(exc)
                continue
            except Exception as exc:
                if type(exc).__name__ not in ("IncompleteRead", "RemoteDisconnected"):
                    failures.append(exc)
                    raise
                continue
            found.append((name, start, answer))

    with served(tmp_path / "out.tar") as ports:
        threads = [threading.Thread(target=ask, args=(ports, seed)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for version in range(1, versions):
            seen = len(found)
            until(lambda seen=seen: len(found) >= seen + 20)
            put_version(tmp_path, version)
        # the last version is served in the end
        last = payload_of("1.bin", versions - 1)
        until(lambda: ports[0].ask("/b/out/1.bin").body == last)
        ended.set()
        for thread in threads:
            thread.join()
    assert not failures
    etags = {}
    for name, start, answer in found:
        assert answer.status in (200, 206, 409, 503), answer
        if answer.status == 200:
            assert (name, crc32c(answer.body)) in right
            assert etags.setdefault(answer.headers["etag"], answer.body) == answer.body
        elif answer.status == 206:
            assert any(
                answer.body == payload_of(name, version)[start:] for version in range(versions)
            )
    assert sum(answer.status in (200, 206) for *_, answer in found) > versions
