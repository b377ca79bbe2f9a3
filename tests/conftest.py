"""Fixtures for all tests: a real S3 server, an environment without AWS settings, and a few small images."""

from __future__ import annotations

import io
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import prodigy_fake
import pytest
from faultserver import FaultServer
from hypothesis import HealthCheck, settings
from PIL import Image
from s3server import (
    NO_AWS,
    CantInstallError,
    S3Server,
    close_clients,
    close_idle_connections,
    forget_clients,
    stop_server,
)

from blobpack.stores.s3.client import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloudservers import Gcs


# test workers share the processors with each other and with other programs, so the duration of an example proves
# nothing
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

S3_FOLDER = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Choose the folder of the S3 server, which all worker processes of a run share."""
    workerinput = getattr(config, "workerinput", None)
    folder = workerinput["s3_folder"] if workerinput else tempfile.mkdtemp(prefix="blobpack-s3-")
    config.stash[S3_FOLDER] = Path(folder)


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_configure_node(node: Any) -> None:
    node.workerinput["s3_folder"] = str(node.config.stash[S3_FOLDER])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the tests of the wheel to the front."""
    # the compiler runs for a minute: at the end, all other workers would wait for it
    items.sort(key=lambda item: item.path.name != "test_wheel.py")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the S3 server when all workers have ended."""
    # only the main process knows that: a worker does not know whether another one still needs the server
    if not hasattr(config, "workerinput"):
        stop_server(config.stash[S3_FOLDER])
        shutil.rmtree(config.stash[S3_FOLDER], ignore_errors=True)


@pytest.fixture(scope="session")
def s3(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """A real S3 server, started for the first test of any worker that needs it; without a server, the test fails."""
    try:
        server = S3Server(request.config.stash[S3_FOLDER])
    except CantInstallError as exc:
        pytest.fail(str(exc), pytrace=False)
    yield server
    server.close()


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
    close_clients()
    boto3.DEFAULT_SESSION = None


@pytest.fixture
def s3_env(s3: S3Server, no_aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The S3 server, and an environment in which boto3 and blobpack use it."""
    for name, value in s3.settings().items():
        monkeypatch.setenv(name, value)
    yield s3
    s3.delete_large()


@pytest.fixture
def bucket(s3_env: S3Server) -> str:
    """An empty bucket."""
    return s3_env.new_bucket()


@pytest.fixture
def sent(s3_env: S3Server) -> list[tuple[str, str]]:
    """The requests that boto3 sends to S3 from now on: operation and URL."""
    requests: list[tuple[str, str]] = []

    def note(request: Any, event_name: str, **_: object) -> None:
        requests.append((event_name.rpartition(".")[2], request.url))

    client_of().meta.events.register("before-send.s3", note)
    return requests


@pytest.fixture
def faults(s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """A proxy in front of the S3 server that injects faults, and an environment in which it is used."""
    with FaultServer(s3_env.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy


@pytest.fixture(scope="module")
def gcs_server() -> Iterator[Gcs]:
    """A fake of Google Cloud Storage."""
    # imported here, because only the tests of clouds need obstore, and not every tool's environment has it
    from cloudservers import serving_gcs

    with serving_gcs() as server:
        yield server


@pytest.fixture
def gcs(gcs_server: Gcs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gcs]:
    """That fake, and an environment in which blobpack uses it."""
    from blobpack.stores.clouds.client import forget_clients

    for name, value in gcs_server.settings().items():
        monkeypatch.setenv(name, value)
    forget_clients()
    yield gcs_server
    gcs_server.server.asked.clear()
    forget_clients()


@pytest.fixture
def prodigy_in_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fake of Prodigy as the module and the command `prodigy`, with an empty database."""
    monkeypatch.setattr(prodigy_fake, "RECIPES", {})
    for name, module in prodigy_fake.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    for name, value in prodigy_fake.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    prodigy_fake.install_command(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def small_images() -> dict[str, bytes]:
    """Member name → the bytes of a tiny image: JPEG and PNG, colour, grey, transparent and rotated by EXIF."""
    return dict(_small_images())


@cache
def _small_images() -> dict[str, bytes]:
    colours = Image.merge(
        "RGB", [Image.linear_gradient("L").resize((24, 16)).rotate(turn) for turn in (0, 90, 180)]
    )
    turned = Image.Exif()
    # EXIF orientation 6: rotate by 90° clockwise to show the image
    turned[0x0112] = 6
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
    """A certificate for 127.0.0.1 that no authority has signed, and its key."""
    if shutil.which("openssl") is None:
        pytest.fail("openssl, which makes the certificate, is not installed")
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
        close_idle_connections()
