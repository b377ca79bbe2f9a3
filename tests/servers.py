"""S3 servers that install from PyPI and npm, started on loopback for tests: see scripts/test --servers."""

from __future__ import annotations

import configparser
import http.client
import os
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from s3server import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Each server has an environment of its own in it, which scripts/server-tests makes.
ENVIRONMENTS = Path(__file__).parents[1] / ".venv-servers"
ACCESS_KEY, SECRET_KEY = "blobpackkey", "blobpacksecret1234567890"
START_TIMEOUT_S = 120


def program(server: str, name: str) -> str:
    """Return the path of a server's program: in its own environment, or else in the one that runs the tests.

    Raises:
        FileNotFoundError: it is in neither.
    """
    for path in (
        ENVIRONMENTS / server / "bin" / name,
        ENVIRONMENTS / server / "node_modules" / ".bin" / name,
        Path(sys.executable).with_name(name),
    ):
        if path.exists():
            return str(path)
    raise FileNotFoundError(f"{server} is not installed: scripts/test --servers {server} does that")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(
    commands: list[list[str]], ports: Iterable[int], folder: Path, **env: str
) -> Iterator[None]:
    """Run programs while the block runs; it begins when something answers HTTP on each port."""
    with (folder / "log").open("wb") as log:
        children = [
            subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
            for command in commands
        ]
        try:
            for port in ports:
                _wait_until_it_answers(port, children, folder / "log")
            yield
        finally:
            for child in children:
                child.kill()
            for child in children:
                child.wait()


def _wait_until_it_answers(port: int, children: list[subprocess.Popen[bytes]], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        ended = any(child.poll() is not None for child in children)
        if ended or time.monotonic() > deadline:
            raise RuntimeError(f"the server does not answer: {log.read_text()[-2000:]}")
        time.sleep(0.05)


@contextmanager
def moto(folder: Path) -> Iterator[Endpoint]:
    port = free_port()
    command = [program("moto", "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with running([command], [port], folder):
        yield Endpoint(f"http://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY)


@contextmanager
def nanio(folder: Path) -> Iterator[Endpoint]:
    port = free_port()
    command = [program("nanio", "nanio"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--data-dir", str(folder / "data"), "--no-access-log"]
    keys = {"NANIO_ACCESS_KEY": ACCESS_KEY, "NANIO_SECRET_KEY": SECRET_KEY}
    with running([command], [port], folder, **keys):
        yield Endpoint(f"http://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY)


@contextmanager
def localbucket(folder: Path) -> Iterator[Endpoint]:
    port = free_port()
    (folder / "data").mkdir()
    command = [program("localbucket", "localbucket"), "--port", str(port), str(folder / "data")]
    with running([command], [port], folder):
        yield Endpoint(f"http://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY)


@contextmanager
def ministack(folder: Path) -> Iterator[Endpoint]:
    port = free_port()
    command = [program("ministack", "ministack")]
    with running([command], [port], folder, GATEWAY_PORT=str(port), MINISTACK_HOST="127.0.0.1"):
        yield Endpoint(f"http://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY)


@contextmanager
def rclone(folder: Path) -> Iterator[Endpoint]:
    port = free_port()
    (folder / "data").mkdir()
    command = [program("rclone", "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", str(folder / "data")]
    with running([command], [port], folder, RCLONE_CONFIG="/nowhere"):
        yield Endpoint(f"http://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY)


@contextmanager
def s3rver(folder: Path) -> Iterator[Endpoint]:
    port = free_port()
    (folder / "data").mkdir()
    command = [program("s3rver", "s3rver"), "-d", str(folder / "data"), "-a", "127.0.0.1"]
    command += ["-p", str(port), "--silent", "--no-vhost-buckets"]
    with running([command], [port], folder):
        yield Endpoint(f"http://127.0.0.1:{port}", "S3RVER", "S3RVER")


@contextmanager
def swift(folder: Path) -> Iterator[Endpoint]:
    """OpenStack Swift: the four servers, each with one device and one worker, and s3api in front of the proxy."""
    ports = {name: free_port() for name in ("account", "container", "object", "proxy")}
    device = folder / "devices" / "d1"
    device.mkdir(parents=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = tests\n[storage-policy:0]\nname = gold\ndefault = yes\n"
    )
    for name in ("account", "container", "object"):
        _make_ring(folder, name, ports[name])
    commands = []
    for name, port in ports.items():
        _write_config(folder, name, port)
        commands.append([program("swift", f"swift-{name}-server"), str(folder / f"{name}.conf")])
    with running(commands, ports.values(), folder):
        yield Endpoint(f"http://127.0.0.1:{ports['proxy']}", "test:blob", "testing")


def _make_ring(folder: Path, name: str, port: int) -> None:
    builder, command = folder / f"{name}.builder", program("swift", "swift-ring-builder")
    for arguments in (
        ["create", "2", "1", "0"],
        ["add", f"r1z1-127.0.0.1:{port}/d1", "1"],
        ["rebalance"],
    ):
        subprocess.run([command, builder, *arguments], check=True, capture_output=True)


PIPELINE = "catch_errors gatekeeper healthcheck listing_formats s3api tempauth bulk slo dlo proxy-logging proxy-server"


def _write_config(folder: Path, name: str, port: int) -> None:
    config = configparser.ConfigParser()
    config["DEFAULT"] = {
        "bind_ip": "127.0.0.1",
        "bind_port": str(port),
        "workers": "0",
        "swift_dir": str(folder),
        "devices": str(folder / "devices"),
        "mount_check": "false",
        "log_level": "ERROR",
        "user": "",
    }
    config["pipeline:main"] = {"pipeline": PIPELINE if name == "proxy" else f"{name}-server"}
    config[f"app:{name}-server"] = {"use": f"egg:swift#{name}"}
    if name == "proxy":
        config["app:proxy-server"].update(
            account_autocreate="true",
            allow_account_management="true",
            # on a busy machine, half a second (the default) is not enough, and the proxy answers 503
            conn_timeout=str(START_TIMEOUT_S),
            node_timeout=str(START_TIMEOUT_S),
        )
        for part in PIPELINE.split()[:-1]:
            config[f"filter:{part}"] = {"use": f"egg:swift#{part.replace('-', '_')}"}
        config["filter:s3api"].update(location="us-east-1", s3_acl="false")
        config["filter:tempauth"].update(user_test_blob="testing .admin")
    with (folder / f"{name}.conf").open("w") as file:
        config.write(file)


SERVERS: dict[str, Callable[[Path], object]] = {
    "moto": moto,
    "nanio": nanio,
    "localbucket": localbucket,
    "ministack": ministack,
    "Swift s3api": swift,
    "rclone serve s3": rclone,
    "s3rver": s3rver,
}
# Those that the extra `test` installs.
LIGHT = ("moto", "localbucket")
