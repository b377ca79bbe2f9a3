"""Servers of SFTP and WebDAV, read and written through fsspec."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import cloudservers
import pytest
from fsspec.config import conf
from lifecycle import STEPS, members, read_all, run

import blobpack
from blobpack.errors import StorageError
from blobpack.stores.clouds.client import forget_clients

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# each prints its port, and serves the folder of its argument without a password
SFTP_SERVER = """
import asyncio, sys
import asyncssh

class Open(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False

class Files(asyncssh.SFTPServer):
    def __init__(self, channel):
        super().__init__(channel, chroot=sys.argv[1])

async def serve():
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[key], server_factory=Open, sftp_factory=Files
    )
    print(server.get_port(), flush=True)
    await server.wait_closed()

asyncio.run(serve())
"""
WEBDAV_SERVER = """
import sys
from cheroot import wsgi
from wsgidav.wsgidav_app import WsgiDAVApp

users = {"user_mapping": {"*": True}}
app = WsgiDAVApp({"provider_mapping": {"/": sys.argv[1]}, "simple_dc": users, "verbose": 0})
server = wsgi.Server(("127.0.0.1", 0), app)
server.prepare()
print(server.bind_addr[1], flush=True)
server.serve()
"""
# There are neither keys nor buckets, and only an upload to S3 can be resumed. paramiko waits for an answer to each 32 KiB,
# so steps with many megabytes take a minute.
LEFT_OUT = ("resume", "wrong key", "missing bucket", "pack in parts", "append, large")


@contextmanager
def serving(code: str, folder: Path) -> Iterator[int]:
    """Run a server while the block runs; return its port."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert child.stdout
        yield int(child.stdout.readline())
    finally:
        child.kill()
        child.communicate()


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[cloudservers.Ftp]:
    folder = tmp_path_factory.mktemp("sftp")
    conf["sftp"] = {"look_for_keys": False, "allow_agent": False, "password": "none"}
    with serving(SFTP_SERVER, folder) as port:
        yield cloudservers.Ftp(f"sftp://me@127.0.0.1:{port}", folder)
    del conf["sftp"]


@pytest.mark.parametrize("step", [step for step in STEPS if step not in LEFT_OUT])
def test_a_step_of_the_life_cycle_works_by_sftp(
    step: str, sftp: cloudservers.Ftp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(step, sftp, tmp_path, monkeypatch) == ""


@pytest.fixture
def webdav(tmp_path: Path) -> Iterator[Path]:
    """A folder behind webdav:// URLs."""
    (tmp_path / "dav").mkdir()
    with serving(WEBDAV_SERVER, tmp_path / "dav") as port:
        conf["webdav"] = {"base_url": f"http://127.0.0.1:{port}"}
        forget_clients()
        yield tmp_path / "dav"
    del conf["webdav"]
    forget_clients()


def test_webdav_is_read_and_replaces_nothing(webdav: Path) -> None:
    url = "webdav://set/out.tar"
    blobpack.pack(members(50).items(), url, all_files=True)
    assert read_all(url) == members(50)
    assert blobpack.collect("webdav://set/*.tar", "webdav://set/all.idx").members == 50
    # the package webdav4 refuses to rename a file to a name that is taken
    with pytest.raises(StorageError, match="already exists"):
        blobpack.pack(members(3).items(), url, all_files=True)
    assert read_all(url) == members(50)
    found = sorted(path.name for path in webdav.rglob("*") if path.is_file())
    assert found == ["all.idx", "out.tar"]
