"""A real S3 server for tests: Ceph RGW on loopback, started and stopped by scripts/s3-server."""

from __future__ import annotations

import fcntl
import itertools
import os
import subprocess
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import botocore.loaders
import botocore.session

from blobpack.stores.http import pool
from blobpack.stores.s3 import client as s3

if TYPE_CHECKING:
    import pytest
    from botocore.config import Config
    from mypy_boto3_s3 import S3Client

SCRIPT = Path(__file__).parents[1] / "scripts" / "s3-server"
# the first start may install the server's packages
START_TIMEOUT_S = 600
LARGE_BYTES = 1 << 20
# exit status of the script
CANT_INSTALL = 3
LOADER = botocore.loaders.create_loader()


class CantInstallError(Exception):
    """The server is not installed, and can't be installed here; the message says what is missing."""


def start_server(folder: Path) -> str:
    """Start a server with its files in a folder, and return the lines that the script prints: NAME=value."""
    done = subprocess.run(
        [SCRIPT, "start", folder],
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    if done.returncode == CANT_INSTALL:
        raise CantInstallError(done.stderr.strip())
    if done.returncode:
        raise RuntimeError(f"{SCRIPT.name} exited with {done.returncode}: {done.stderr}")
    return done.stdout


def stop_server(folder: Path) -> None:
    """Stop the server of a folder, if there is one."""
    (folder / "settings").unlink(missing_ok=True)
    subprocess.run([SCRIPT, "stop", folder], check=True)


class Endpoint:
    """An S3 server that runs, and a user's keys.

    Attributes:
        endpoint: URL of the server.
        access_key: Access key of a user with all rights.
        secret_key: Secret key of that user.
        region: The region that requests are signed for.
    """

    def __init__(
        self, endpoint: str, access_key: str, secret_key: str, region: str = "us-east-1"
    ) -> None:
        """Note where a server is; no request is sent."""
        self.endpoint = endpoint
        self.access_key = access_key
        self.secret_key = secret_key
        self.region = region
        self._numbers = itertools.count()
        self._buckets: list[str] = []

    def close(self) -> None:
        """Close the connections to the server, which keeps running."""
        if "client" in self.__dict__:
            self.client.close()
            del self.client

    @cached_property
    def client(self) -> S3Client:
        """A boto3 client that ignores the environment, and sends requests to the server directly."""
        return self.new_client()

    def new_client(
        self,
        *,
        endpoint: str | None = None,
        secret_key: str | None = None,
        config: Config | None = None,
    ) -> S3Client:
        """Make a boto3 client; the caller closes it."""
        return new_session().client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            region_name=self.region,
            config=config,
        )

    def new_bucket(self) -> str:
        """Make an empty bucket, and return its name."""
        name = f"bucket-{os.getpid()}-{next(self._numbers)}"
        self.client.create_bucket(Bucket=name)
        self._buckets.append(name)
        return name

    def delete_large(self) -> None:
        """Delete the large objects of the buckets that were made since the last call."""
        # the server keeps objects in memory, and all tests together store 3 GB
        for bucket in self._buckets:
            found = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
            for key in [one["Key"] for one in found if one["Size"] >= LARGE_BYTES]:
                self.delete(bucket, key)
        self._buckets.clear()

    def url(self, bucket: str, key: str) -> str:
        """Return the s3:// URL of an object."""
        return f"s3://{bucket}/{key}"

    def lose_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have blobpack use a wrong key until the test ends."""
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")

    def put(self, bucket: str, key: str, data: bytes) -> str:
        """Store an object, and return its s3:// URL."""
        self.client.put_object(Bucket=bucket, Key=key, Body=data)
        return self.url(bucket, key)

    def stored(self, bucket: str, key: str) -> bytes:
        """Return the bytes of an object."""
        return self.client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def keys(self, bucket: str) -> list[str]:
        """List the keys of a bucket, at most a thousand."""
        answer = self.client.list_objects_v2(Bucket=bucket)
        return [found["Key"] for found in answer.get("Contents", [])]

    def uploads(self, bucket: str) -> list[str]:
        """List the keys of unfinished multipart uploads."""
        answer = self.client.list_multipart_uploads(Bucket=bucket)
        return [upload["Key"] for upload in answer.get("Uploads", [])]

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self.client.delete_object(Bucket=bucket, Key=key)

    def settings(self, *, endpoint: str | None = None) -> dict[str, str]:
        """Return only the environment variables with which boto3 uses this server."""
        return {
            "AWS_ENDPOINT_URL_S3": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
        }

    def env(self, *, endpoint: str | None = None) -> dict[str, str]:
        """Return the environment for a subprocess: this process's own, with AWS settings for this server only."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return kept | NO_AWS | self.settings(endpoint=endpoint)


class S3Server(Endpoint):
    """A running Ceph RGW."""

    def __init__(self, folder: Path) -> None:
        """Start a server with its files in a folder, or use the one that another process started there.

        Raises:
            CantInstallError: the server is not installed, and can't be installed here.
        """
        self._folder = folder
        with (folder / "lock").open("w") as lock:
            # test workers start at the same time; closing the file releases the lock
            fcntl.flock(lock, fcntl.LOCK_EX)
            settings = folder / "settings"
            if not settings.exists():
                settings.write_text(start_server(folder))
            values = dict(line.split("=", 1) for line in settings.read_text().splitlines())
        super().__init__(
            values["AWS_ENDPOINT_URL_S3"],
            values["AWS_ACCESS_KEY_ID"],
            values["AWS_SECRET_ACCESS_KEY"],
            values["AWS_DEFAULT_REGION"],
        )

    def new_user(self) -> Endpoint:
        """Make a user without rights; the policies of buckets may give it some."""
        name = f"user-{os.getpid()}-{next(self._numbers)}"
        keys = (f"--access-key={name}", f"--secret-key={name}-secret")
        command = ["radosgw-admin", "-c", self._folder / "ceph.conf", "user", "create"]
        subprocess.run(
            [*command, f"--uid={name}", f"--display-name={name}", *keys],
            check=True,
            capture_output=True,
            timeout=START_TIMEOUT_S,
        )
        return Endpoint(self.endpoint, name, f"{name}-secret", self.region)

    def stop(self) -> None:
        """Stop the server; all its objects are lost."""
        self.close()
        stop_server(self._folder)


# boto3 must not find the settings of the user who runs the tests, nor wait for a metadata service that does not
# exist here; and no proxy may stand before loopback
NO_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


def new_session() -> boto3.session.Session:
    """Make a boto3 session without credentials or settings."""
    # the loader keeps the data files that it has read: reading them takes ten times as long as all else
    core = botocore.session.Session()
    core.register_component("data_loader", LOADER)
    return boto3.session.Session(botocore_session=core)


def close_clients() -> None:
    """Close the clients and connections that the stores of this process share; stores then make new ones."""
    close_idle_connections()
    while s3._clients:
        _, client = s3._clients.popitem()
        client.s3.close()


def forget_clients() -> None:
    """Close the clients, and give boto3 a new default session, which has not read the environment yet."""
    close_clients()
    boto3.DEFAULT_SESSION = new_session()


def close_idle_connections() -> None:
    """Close the idle connections to servers, so that a server in this process can end."""
    for connections in list(pool._pools.values()):
        connections.close_idle()
