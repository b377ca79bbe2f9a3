"""A collection does not choose what is read: its blobs lie below its own folder, or where the caller allows."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from rangeserver import send_range
from test_cli import COMMAND

import blobpack
from blobpack.cli.main import main
from blobpack.errors import StorageError, UnsafeNameError
from blobpack.opening.locations import is_below
from blobpack.stores.http.redirect import (
    LINK_LOCAL,
    LOOPBACK,
    PRIVATE,
    PUBLIC,
    reach_of,
    redirect_target,
)
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3server import S3Server


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A blob that lies beside the folder of the collections."""
    for folder in ("mine", "outside"):
        (tmp_path / folder).mkdir()
    blobpack.pack([("secret", b"x" * 9)], tmp_path / "outside" / "b.tar", all_files=True)
    return tmp_path / "outside" / "b.tar"


@pytest.mark.parametrize("place", ["outside", "outside/", "outside/b.tar", "."])
def test_a_local_blob_elsewhere_is_read_only_where_it_is_allowed(
    outside: Path, tmp_path: Path, place: str
) -> None:
    collection = tmp_path / "mine" / "c.idx"
    blobpack.collect([outside], collection)
    with blobpack.open_collection(collection) as opened:
        assert [blob.url for blob in opened.blobs] == [str(outside)]
        for read in (opened.read, lambda name: next(opened.read_many([name]))):
            with pytest.raises(UnsafeNameError, match=r"b\.tar.*not below.*allow=\[…\]"):
                read("secret")
    allowed = f"{tmp_path}/{place}"
    with blobpack.open_collection(collection, allow=allowed) as opened:
        assert opened.read("secret") == b"x" * 9
        assert pickle.loads(pickle.dumps(opened)).read("secret") == b"x" * 9
    with (
        blobpack.open_collection(collection, allow=[tmp_path / "out", "s3://b"]) as opened,
        pytest.raises(UnsafeNameError),
    ):
        opened.read("secret")


def test_the_command_line_allows_places(outside: Path, tmp_path: Path) -> None:
    collection = tmp_path / "mine" / "c.idx"
    blobpack.collect([outside], collection)

    def run(*arguments: object) -> tuple[int, bytes, bytes]:
        done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr

    code, printed, message = run("cat", collection, "secret")
    assert (code, printed) == (1, b"")
    assert b"--allow" in message
    assert run("cat", collection, "secret", "--allow", outside.parent)[:2] == (0, b"x" * 9)
    assert run("extract", collection, tmp_path / "files")[0] == 1
    arguments = ("--allow", tmp_path, "--allow", "https://host")
    assert run("extract", collection, tmp_path / "files", *arguments)[0] == 0
    assert (tmp_path / "files" / "secret").read_bytes() == b"x" * 9
    assert run("cat", collection, "secret", "--allow", "gopher://x")[0] == 2
    assert run("cat", outside, "secret", "--allow", tmp_path)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["verify", "c.idx"], None),
        (["merge", "c.idx", "new.tar"], "new.tar"),
        (["subset", "c.idx", "new.tar"], "new.tar"),
        (["index", "c.idx"], "../outside/b.tar.idx"),
    ],
)
def test_every_command_that_reads_a_collection_allows_places(
    outside: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    made: str | None,
) -> None:
    monkeypatch.chdir(tmp_path / "mine")
    blobpack.collect([outside], "c.idx")
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 1, ran.output
    assert "--allow names other folders" in ran.output
    assert not made or not (tmp_path / "mine" / made).exists()
    ran = CliRunner().invoke(main, [*arguments, "--allow", "../outside"])
    assert ran.exit_code == 0, ran.output
    if made:
        (tmp_path / "mine" / made).unlink()
    # of one blob, it has no meaning
    ran = CliRunner().invoke(main, [arguments[0], str(outside), *arguments[2:], "--allow", ".."])
    assert ran.exit_code == 2
    assert "--allow needs a collection" in ran.output


def test_offsets_and_figures_of_blobs_elsewhere_need_no_permission(
    outside: Path, tmp_path: Path
) -> None:
    """They are in the collection itself."""
    blobpack.collect([outside], tmp_path / "mine" / "c.idx")
    table = str(tmp_path / "t.csv")
    for arguments in (["offsets", "-o", table], ["info"], ["ls"]):
        for allow in ([], ["--allow", str(outside.parent)]):
            command, *more = arguments
            ran = CliRunner().invoke(main, [command, f"{tmp_path}/mine/c.idx", *more, *allow])
            assert ran.exit_code == 0, ran.output
    assert str(outside) in Path(table).read_text()


def test_indexes_of_blobs_elsewhere_go_beside_them_only(outside: Path, tmp_path: Path) -> None:
    blobpack.collect([outside], tmp_path / "mine" / "c.idx")
    arguments = ["index", f"{tmp_path}/mine/c.idx", "--allow", str(tmp_path), "-o", f"{tmp_path}/"]
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 2
    assert "is not below" in ran.output


@pytest.mark.parametrize(
    ("blob", "place", "expected"),
    [
        ("/a/b/c.tar", "/a/b/", True),
        ("/a/b/c.tar", "/a/b", True),
        ("/a/b/c.tar", "/", True),
        ("/a/b/c.tar", "/a/b/c.tar", True),
        ("/a/bb/c.tar", "/a/b", False),
        ("/a/b/../c.tar", "/a/b/", False),
        ("/a/b/c.tar", "/a/x/../b", True),
        ("s3://bucket/a/b.tar", "s3://bucket", True),
        ("s3://bucket/a/b.tar", "s3://bucket/", True),
        ("s3://bucket/a/b.tar", "s3://bucket/a/", True),
        ("s3://bucket/ab.tar", "s3://bucket/a", False),
        ("s3://bucket2/a/b.tar", "s3://bucket/", False),
        ("s3://bucket//a/b.tar", "s3://bucket//a/", True),
        ("s3://bucket/a/../b.tar", "s3://bucket/a/", True),  # ".." is a name in S3
        ("https://host/a/b.tar?token", "https://host", True),
        ("https://HOST:443/a/b.tar", "https://host/a/", True),
        ("https://host:444/a/b.tar", "https://host/a/", False),
        ("http://host/a/b.tar", "https://host/a/", False),
        ("https://host/a/../b.tar", "https://host/a/", False),
        ("https://host/a/%2e%2e/b.tar", "https://host/a/", False),
        ("https://host/a/..\\b.tar", "https://host/a/", False),
        ("https://host.evil/a/b.tar", "https://host", False),
        ("https://evil/@host/b.tar", "https://host", False),
        ("https://169.254.169.254/a", "s3://bucket", False),
        ("/a/b.tar", "s3://bucket", False),
    ],
)
def test_what_lies_below_a_place(blob: str, place: str, expected: bool) -> None:
    assert is_below(Location.parse(blob), Location.parse(place, prefix=True)) == expected


@pytest.mark.parametrize("kind", ["local", "http", "s3"])
def test_a_far_collection_names_no_file_host_or_bucket(
    s3_env: S3Server, bucket: str, outside: Path, tmp_path: Path, kind: str
) -> None:
    other = s3_env.put(s3_env.new_bucket(), "b.tar", outside.read_bytes())
    named = {
        "local": str(outside),
        "http": s3_env.client.generate_presigned_url(
            "get_object", Params={"Bucket": other.split("/")[2], "Key": "b.tar"}
        ),
        "s3": other,
    }[kind]
    blobpack.collect([named], f"s3://{bucket}/set/collection.idx")
    with blobpack.open_collection(f"s3://{bucket}/set/") as opened:
        assert opened.url_of("secret") == named
        with pytest.raises(UnsafeNameError, match=r"allow=\[…\]"):
            opened.read("secret")
    allowed = {"local": outside.parent, "http": s3_env.endpoint, "s3": other.rpartition("/")[0]}
    with blobpack.open_collection(f"s3://{bucket}/set/", allow=allowed[kind]) as opened:
        assert opened.read("secret") == b"x" * 9


# Redirects


@pytest.fixture
def server(outside: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The URL of a server that sends the blob at /b.tar, and redirects; path → Location."""
    redirects: dict[str, str] = {}
    content = outside.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in redirects:
                self.send_response(302)
                self.send_header("Location", redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            send_range(self, content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, args=(0.01,)).start()
        yield f"http://127.0.0.1:{served.server_port}", redirects
        served.shutdown()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://169.254.169.254/latest/meta-data/?SECRET", "must not send"),
        ("http://[fe80::1]/", "must not send"),
        ("http://[::ffff:169.254.169.254]/", "must not send"),
        ("http://user:SECRET@127.0.0.1/b.tar", "without a user"),
        ("file:///etc/passwd", "is not http"),
        ("http://[half/a?SECRET", "without a user"),
        ("http://127.0.0.1:x/a?SECRET", "without a user"),
        ("http://u:SECRET/x@127.0.0.1/a", "without a user"),
        ("gopher://127.0.0.1/a?SECRET", "is not http"),
    ],
)
def test_a_redirect_into_a_closer_network_is_not_followed(
    server: tuple[str, dict[str, str]], target: str, message: str
) -> None:
    url, redirects = server
    redirects["/x.tar"] = target
    with pytest.raises(StorageError, match=message) as caught:
        blobpack.open_blob(f"{url}/x.tar")
    assert "SECRET" not in str(caught.value)


def test_other_redirects_are_followed(server: tuple[str, dict[str, str]], outside: Path) -> None:
    url, redirects = server
    port = url.rpartition(":")[2]
    redirects |= {"/x.tar": "/b.tar", "/y.tar": f"http://localhost:{port}/b.tar?signature"}
    for name in ("x.tar", "y.tar"):
        with blobpack.open_blob(f"{url}/{name}") as blob:
            assert blob.read("secret") == b"x" * 9
            assert "signature" not in repr(blob)


def test_how_public_an_address_is() -> None:
    for address, expected in [
        ("169.254.169.254", LINK_LOCAL),
        ("fe80::1", LINK_LOCAL),
        ("::ffff:169.254.1.1", LINK_LOCAL),
        ("127.0.0.1", LOOPBACK),
        ("::1", LOOPBACK),
        ("0.0.0.0", LOOPBACK),
        ("10.1.1.1", PRIVATE),
        ("192.168.0.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("fd00:ec2::254", PRIVATE),
        ("8.8.8.8", PUBLIC),
        ("2001:4860:4860::8888", PUBLIC),
    ]:
        assert reach_of(address) == expected
    redirect_target("http://8.8.8.8/a", "https://9.9.9.9/b")
    redirect_target("http://10.0.0.1/a", "http://8.8.8.8/b")
    for target in ("http://10.0.0.1/", "http://127.0.0.1/", "http://[::ffff:10.0.0.1]/"):
        with pytest.raises(StorageError, match="must not send"):
            redirect_target("http://8.8.8.8/a", target)
    with pytest.raises(StorageError, match="not encrypted"):
        redirect_target("https://8.8.8.8/a", "http://8.8.8.8/a")


def test_a_set_that_is_moved_needs_nothing(outside: Path, tmp_path: Path) -> None:
    blobpack.collect(outside.parent)
    shutil.move(outside.parent, tmp_path / "moved")
    with blobpack.open_collection(tmp_path / "moved") as opened:
        assert opened.read("secret") == b"x" * 9
