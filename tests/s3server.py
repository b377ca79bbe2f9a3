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
    from botocore.config import Config
    from mypy_boto3_s3 import S3Client

SCRIPT = Path(__file__).parents[1] / "scripts" / "s3-server"
START_TIMEOUT_S = 600  # installing the packages included
LARGE_BYTES = 1 << 20
CANT_INSTALL = 3  # the script's exit status
LOADER = botocore.loaders.create_loader()


class CantInstallError(Exception):
    """The server isn't installed, and can't be here; the message says what is missing."""


def start_server(folder: Path) -> str:
    """Start a server with its files in a folder, and return the lines that it prints: NAME=value."""
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


class S3Server:
    """A running server.

    Attributes:
        endpoint: Its URL.
        access_key: Who may do everything.
        secret_key: Their secret.
        region: What requests are signed for.
    """

    def __init__(self, folder: Path) -> None:
        """Start a server with its files in a folder, or use the one that another process started there.

        Raises:
            CantInstallError: it isn't installed, and can't be here.
        """
        self._folder = folder
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed
            settings = folder / "settings"
            if not settings.exists():
                settings.write_text(start_server(folder))
            said = dict(line.split("=", 1) for line in settings.read_text().splitlines())
        self.endpoint = said["AWS_ENDPOINT_URL_S3"]
        self.access_key = said["AWS_ACCESS_KEY_ID"]
        self.secret_key = said["AWS_SECRET_ACCESS_KEY"]
        self.region = said["AWS_DEFAULT_REGION"]
        self._numbers = itertools.count()
        self._buckets: list[str] = []

    def close(self) -> None:
        """Close the connections to the server, which goes on."""
        if "client" in self.__dict__:
            self.client.close()

    def stop(self) -> None:
        """Stop the server; what it stored is gone."""
        self.close()
        stop_server(self._folder)

    @cached_property
    def client(self) -> S3Client:
        """A client for putting and deleting, from no environment and straight to the server."""
        return self.new_client()

    def new_client(
        self,
        *,
        endpoint: str | None = None,
        secret_key: str | None = None,
        config: Config | None = None,
    ) -> S3Client:
        """Make a client; close it after use."""
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
        """Delete the large objects of all new buckets. The server keeps objects in memory: a run stores 3 GB."""
        for bucket in self._buckets:
            found = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
            for key in [one["Key"] for one in found if one["Size"] >= LARGE_BYTES]:
                self.delete(bucket, key)
        self._buckets.clear()

    def put(self, bucket: str, key: str, data: bytes) -> str:
        """Store an object, and return its s3:// URL."""
        self.client.put_object(Bucket=bucket, Key=key, Body=data)
        return f"s3://{bucket}/{key}"

    def stored(self, bucket: str, key: str) -> bytes:
        """Give an object's bytes."""
        return self.client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def keys(self, bucket: str) -> list[str]:
        """List the objects, a thousand at most."""
        answer = self.client.list_objects_v2(Bucket=bucket)
        return [found["Key"] for found in answer.get("Contents", [])]

    def uploads(self, bucket: str) -> list[str]:
        """List the keys of the uploads that are under way."""
        answer = self.client.list_multipart_uploads(Bucket=bucket)
        return [upload["Key"] for upload in answer.get("Uploads", [])]

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self.client.delete_object(Bucket=bucket, Key=key)

    def settings(self, *, endpoint: str | None = None) -> dict[str, str]:
        """Return the environment variables that lead boto3 here, and nothing else."""
        return {
            "AWS_ENDPOINT_URL_S3": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
        }

    def env(self, *, endpoint: str | None = None) -> dict[str, str]:
        """Return a whole environment for a subprocess: this one, but for what concerns AWS."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return kept | NO_AWS | self.settings(endpoint=endpoint)


# boto3 finds nothing of this machine's user, asks no metadata service, and no proxy stands before loopback
NO_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


def new_session() -> boto3.session.Session:
    """Make a session that knows nothing yet but boto3's data files, which take ten times as long as the rest."""
    core = botocore.session.Session()
    core.register_component("data_loader", LOADER)
    return boto3.session.Session(botocore_session=core)


def close_clients() -> None:
    """Close the clients and connections that stores share in this process: the next are made anew."""
    close_idle_connections()
    while s3._clients:
        _, client = s3._clients.popitem()
        client.s3.close()


def forget_clients() -> None:
    """Close the clients, and let boto3 begin again with a session that knows nothing of the environment."""
    close_clients()
    boto3.DEFAULT_SESSION = new_session()


def close_idle_connections() -> None:
    """Close the connections that wait for their next request: a server in this process may end then."""
    for connections in list(pool._pools.values()):
        connections.close_idle()
