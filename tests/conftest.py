"""Fixtures for all tests: a real S3 server, an environment without AWS, and a few small images."""

from __future__ import annotations

import io
import os
import shutil
import ssl
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from faultserver import FaultServer
from PIL import Image
from s3server import NO_AWS, CantInstallError, S3Server, forget_clients

from blobpack.stores.http import pool
from blobpack.stores.s3.store import default_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, started when the first test asks; skips where it can't be, but fails in CI."""
    try:
        server = S3Server(tmp_path_factory.mktemp("s3"))
    except CantInstallError as exc:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have a real S3 server: {exc}", pytrace=False)
        pytest.skip(str(exc))
    yield server
    server.stop()


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An environment in which boto3 finds no settings and no credentials at all."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in NO_AWS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    forget_clients()
    yield
    forget_clients()
    boto3.DEFAULT_SESSION = None


@pytest.fixture
def s3_env(s3: S3Server, no_aws: None, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 server, and an environment that leads boto3 and blobpack to it."""
    for name, value in s3.settings().items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture
def bucket(s3_env: S3Server) -> str:
    """An empty bucket."""
    return s3_env.new_bucket()


@pytest.fixture
def sent(s3_env: S3Server) -> list[tuple[str, str]]:
    """What is asked of S3 through boto3 from now on: operation and URL."""
    requests: list[tuple[str, str]] = []

    def note(request: Any, event_name: str, **_: object) -> None:
        requests.append((event_name.rpartition(".")[2], request.url))

    default_client().meta.events.register("before-send.s3", note)
    return requests


@pytest.fixture
def faults(s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """A proxy in front of the S3 server that injects faults, and an environment that leads through it."""
    with FaultServer(s3_env.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy


@pytest.fixture
def small_images() -> dict[str, bytes]:
    """Member name → the bytes of a tiny image: JPEG and PNG, colour, grey, transparent and turned by EXIF."""
    return dict(_small_images())


@cache
def _small_images() -> dict[str, bytes]:
    colours = Image.merge(
        "RGB", [Image.linear_gradient("L").resize((24, 16)).rotate(turn) for turn in (0, 90, 180)]
    )
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: turn right by 90° to show
    return {
        "birds/grey.png": _encoded(colours.convert("L"), "PNG"),
        "cats/0001.jpg": _encoded(colours, "JPEG"),
        "cats/0002.jpg": _encoded(colours.rotate(180), "JPEG"),
        "cats/turned.jpg": _encoded(colours, "JPEG", exif=turned),
        "dogs/clear.png": _encoded(colours.convert("RGBA"), "PNG"),
        "dogs/größer 1.png": _encoded(colours.resize((48, 32)), "PNG"),
    }


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of this host that no one trusts, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def tls_proxy(s3_env: S3Server, certificate: tuple[Path, Path]) -> Iterator[FaultServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with FaultServer(s3_env.endpoint, tls=context) as proxy:
        yield proxy
        pool.forget_pools()
