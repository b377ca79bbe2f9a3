"""Clouds other than S3 on loopback, in the form that lifecycle.py asks for: a fake of Google's, Azurite, fsspec's memory."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import itertools
import os
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import fsspec
import obstore
from ftpserver import ftp_server
from gcsserver import GcsServer
from obstore.store import AzureStore
from servers import free_port, running

from blobpack.stores.clouds.client import forget_clients

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

# Azurite's own account, which its documentation names: no secret
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
AZURE_VERSION = "2021-08-06"


class CloudServer:
    """A cloud that runs: the tests fill it, and look at it."""

    scheme = ""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def new_bucket(self) -> str:
        """Make an empty bucket, and return its name."""
        raise NotImplementedError

    def put(self, bucket: str, key: str, data: bytes) -> str:
        """Store an object, and return its URL."""
        raise NotImplementedError

    def stored(self, bucket: str, key: str) -> bytes:
        """Return the bytes of an object."""
        raise NotImplementedError

    def keys(self, bucket: str) -> list[str]:
        """List the keys of a bucket."""
        raise NotImplementedError

    def url(self, bucket: str, key: str) -> str:
        """Return the URL of an object."""
        return f"{self.scheme}://{bucket}/{key}"

    def uploads(self, bucket: str) -> list[str]:
        """Return the keys of unfinished uploads: what obstore leaves is not listed."""
        return []

    def settings(self) -> dict[str, str]:
        """Return the environment variables with which blobpack uses this server."""
        return {}

    def lose_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have requests refused with 403 until the test ends."""
        raise NotImplementedError


class Gcs(CloudServer):
    """The fake of Google Cloud Storage."""

    scheme = "gs"

    def __init__(self, server: GcsServer) -> None:
        super().__init__()
        self.server = server

    def new_bucket(self) -> str:
        name = f"bucket-{os.getpid()}-{next(self._numbers)}"
        self.server.buckets[name] = {}
        return name

    def put(self, bucket: str, key: str, data: bytes) -> str:
        self.server.store(bucket, key, data, {})
        return self.url(bucket, key)

    def stored(self, bucket: str, key: str) -> bytes:
        return self.server.buckets[bucket][key].data

    def keys(self, bucket: str) -> list[str]:
        return sorted(self.server.buckets[bucket])

    def settings(self) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.server.url}

    def lose_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self.server, "denied", (403, "AccessDenied"))


class Azurite(CloudServer):
    """Microsoft's emulator of Azure Blob Storage."""

    scheme = "az"

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.connection = (
            f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};"
            f"BlobEndpoint={endpoint}/{AZURITE_ACCOUNT};"
        )

    def new_bucket(self) -> str:
        name = f"bucket-{os.getpid()}-{next(self._numbers)}"
        date = email.utils.formatdate(usegmt=True)
        signed = (
            f"PUT{12 * chr(10)}x-ms-date:{date}\nx-ms-version:{AZURE_VERSION}\n"
            f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{name}\nrestype:container"
        )
        mac = hmac.new(base64.b64decode(AZURITE_KEY), signed.encode(), hashlib.sha256)
        request = urllib.request.Request(
            f"{self.endpoint}/{AZURITE_ACCOUNT}/{name}?restype=container",
            method="PUT",
            headers={
                "x-ms-date": date,
                "x-ms-version": AZURE_VERSION,
                "Authorization": f"SharedKey {AZURITE_ACCOUNT}:{base64.b64encode(mac.digest()).decode()}",
                "Content-Length": "0",
            },
        )
        urllib.request.urlopen(request).close()
        return name

    def store_of(self, bucket: str) -> AzureStore:
        return AzureStore(
            bucket,
            account_name=AZURITE_ACCOUNT,
            account_key=AZURITE_KEY,
            endpoint=f"{self.endpoint}/{AZURITE_ACCOUNT}",
            client_options={"allow_http": True},
        )

    def put(self, bucket: str, key: str, data: bytes) -> str:
        obstore.put(self.store_of(bucket), key, data)
        return self.url(bucket, key)

    def stored(self, bucket: str, key: str) -> bytes:
        return bytes(obstore.get(self.store_of(bucket), key).bytes())

    def keys(self, bucket: str) -> list[str]:
        return sorted(found["path"] for found in obstore.list(self.store_of(bucket)).collect())

    def settings(self) -> dict[str, str]:
        return {"AZURE_STORAGE_CONNECTION_STRING": self.connection}

    def lose_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wrong = base64.b64encode(bytes(64)).decode()
        monkeypatch.setenv(
            "AZURE_STORAGE_CONNECTION_STRING", self.connection.replace(AZURITE_KEY, wrong)
        )
        forget_clients()


class Memory(CloudServer):
    """fsspec's file system in memory."""

    scheme = "memory"

    def new_bucket(self) -> str:
        return f"bucket-{uuid4()}"

    def put(self, bucket: str, key: str, data: bytes) -> str:
        fsspec.filesystem("memory").pipe_file(f"/{bucket}/{key}", data)
        return self.url(bucket, key)

    def stored(self, bucket: str, key: str) -> bytes:
        return fsspec.filesystem("memory").cat_file(f"/{bucket}/{key}")

    def keys(self, bucket: str) -> list[str]:
        found = fsspec.filesystem("memory").find(f"/{bucket}")
        return sorted(path.removeprefix(f"/{bucket}/") for path in found)

    def lose_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Do nothing: there are no keys."""


class Ftp(CloudServer):
    """A server of FTP, with its files in a folder."""

    def __init__(self, root: str, folder: Path) -> None:
        super().__init__()
        self.root = root
        self.folder = folder

    def new_bucket(self) -> str:
        name = f"bucket-{next(self._numbers)}"
        (self.folder / name).mkdir()
        return name

    def url(self, bucket: str, key: str) -> str:
        return f"{self.root}/{bucket}/{key}"

    def put(self, bucket: str, key: str, data: bytes) -> str:
        path = self.folder / bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        # FTP tells whole seconds, and this file must differ from the one before
        changed = path.stat().st_mtime + 2 if path.exists() else 1_700_000_000
        path.write_bytes(data)
        os.utime(path, (changed, changed))
        return self.url(bucket, key)

    def stored(self, bucket: str, key: str) -> bytes:
        return (self.folder / bucket / key).read_bytes()

    def keys(self, bucket: str) -> list[str]:
        top = self.folder / bucket
        return sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())


@contextmanager
def serving_ftp(folder: Path) -> Iterator[Ftp]:
    with ftp_server(folder) as root:
        yield Ftp(root, folder)


@contextmanager
def serving_gcs() -> Iterator[Gcs]:
    with GcsServer() as server:
        yield Gcs(server)


@contextmanager
def serving_azurite(program: Path, folder: Path) -> Iterator[Azurite]:
    port = free_port()
    command = ["node", str(program), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent"]
    command += ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
    with running([command], [port], folder):
        yield Azurite(f"http://127.0.0.1:{port}")
