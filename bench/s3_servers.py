"""The servers of bench_s3.py and the blob that they serve: nginx with Lua, and Ceph RGW.

nginx is the fastest server, injects latency and faults, and counts requests and bytes. RGW, which scripts/s3-server
starts, is a real S3 server. Missing Debian packages are installed if possible. `Ground.missing` names each server that
can't be started, with the reason.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3

import blobpack

if TYPE_CHECKING:
    from contextlib import ExitStack

ROOT = Path(__file__).parents[1]
MODULES = Path("/usr/lib/nginx/modules")
NGINX_PACKAGES = ("nginx-light", "libnginx-mod-http-lua")
NGINX, NGINX_TLS, RGW = "nginx", "nginx, TLS", "Ceph RGW"
BUCKET, KEY = "blobs", "big.tar"
# by whether the run is tiny
MEMBERS = {False: 1000, True: 200}
MEMBER_BYTES = {False: (50_000, 150_000), True: (5_000, 15_000)}
OBJECT_BYTES = (2_000, 8_000)
SEED = 5
# The processor of nginx: the first one that this process may use. None on systems that can't bind a process to one.
PROCESSOR = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
# exit status of scripts/s3-server if its packages can't be installed
CANT_INSTALL = 3
# no settings of this machine's user, no metadata service, and no proxy for loopback
NO_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}
# any credentials do for nginx, which checks no signature
UNCHECKED = {
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_SECRET_ACCESS_KEY": "any",
    "AWS_DEFAULT_REGION": "us-east-1",
}
OPENSSL = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
    "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
)


class Counts(NamedTuple):
    """The requests that a server got since the last count, of any method."""

    requests: int
    bytes: int


class Place:
    """A server under one address: nginx has several, with TLS or with faults.

    Attributes:
        name: Name of the server.
        url: URL of the server.
        env: Environment with which a client uses this server.
    """

    def __init__(self, name: str, url: str, env: dict[str, str]) -> None:
        self.name = name
        self.url = url
        self.env = (
            {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
            | NO_AWS
            | env
            | {"AWS_ENDPOINT_URL_S3": url}
        )

    def inject(self, **values: float) -> dict[str, float]:
        """Set the faults that nginx injects, and return all its values, the counts of injected faults among them."""
        query = "&".join(f"{name}={value}" for name, value in values.items())
        with urllib.request.urlopen(f"{self.url}/_faults?{query}") as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in map(str.split, lines)}

    def counts(self) -> Counts:
        """Return the counts since the last call, and set them to zero."""
        found = self.inject()
        self.inject(requests=0, bytes=0)
        return Counts(int(found.get("requests", 0)), int(found.get("bytes", 0)))


class Ground:
    """The servers that run, and the blob that they serve.

    Attributes:
        path: The file of the blob, which nginx serves.
        payloads: Name → payload of each member.
        plain: Servers without delay, for a client's own work.
        client: boto3's client of the real S3 server; None if it does not run.
        far: Servers with injected latency and faults.
        missing: Servers that can't be started here, and why.
    """

    def __init__(self, folder: Path, stack: ExitStack, *, tiny: bool) -> None:
        """Start the servers; the stack stops them."""
        self.path = folder / "files" / BUCKET / KEY
        self.plain: list[Place] = []
        self.far: list[Place] = []
        self.client: Any = None
        self.missing: dict[str, str] = {}
        chance = random.Random(SEED)
        self.payloads = {
            f"{i:05}.bin": chance.randbytes(chance.randrange(*MEMBER_BYTES[tiny]))
            for i in range(MEMBERS[tiny])
        }
        self.path.parent.mkdir(parents=True)
        blobpack.pack(self.payloads.items(), self.path, all_files=True)
        settings = self._start_s3(folder / "s3", stack)
        self._start_nginx(folder, settings, stack)

    @cached_property
    def members(self) -> list[tuple[str, tuple[int, int]]]:
        """Name and range of each member, in archive order."""
        with blobpack.open_blob(self.path) as blob:
            return [(m.name, (m.offset_start, m.offset_end)) for m in blob.index]

    def put_objects(self, count: int) -> list[tuple[str, bytes]]:
        """Put small objects into the real S3, and return them; none if it does not run."""
        if self.client is None:
            return []
        chance = random.Random(SEED)
        objects = [
            (f"objects/{i:06}.bin", chance.randbytes(chance.randrange(*OBJECT_BYTES)))
            for i in range(count)
        ]
        with ThreadPoolExecutor(10) as pool:
            list(
                pool.map(
                    lambda o: self.client.put_object(Bucket=BUCKET, Key=o[0], Body=o[1]), objects
                )
            )
        return objects

    def _start_s3(self, folder: Path, stack: ExitStack) -> dict[str, str] | None:
        script = ROOT / "scripts" / "s3-server"
        said = subprocess.run([script, "start", folder], capture_output=True, text=True)
        if said.returncode == CANT_INSTALL:
            self.missing[RGW] = said.stderr.strip()
            return None
        if said.returncode:
            raise RuntimeError(said.stderr)
        stack.callback(subprocess.run, [script, "stop", folder], check=True)
        settings = dict(line.split("=", 1) for line in said.stdout.splitlines())
        place = Place(RGW, settings["AWS_ENDPOINT_URL_S3"], settings)
        self.plain.append(place)
        self.client = boto3.client(
            "s3",
            endpoint_url=place.url,
            aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
            region_name=settings["AWS_DEFAULT_REGION"],
        )
        self.client.create_bucket(Bucket=BUCKET)
        self.client.put_object(Bucket=BUCKET, Key=KEY, Body=self.path.read_bytes())
        return settings

    def _start_nginx(self, folder: Path, settings: dict[str, str] | None, stack: ExitStack) -> None:
        program = find_nginx() or install_nginx()
        if program is None:
            self.missing[NGINX] = (
                f"nginx with Lua is missing. On Debian: apt-get install {' '.join(NGINX_PACKAGES)}"
            )
            return
        subprocess.run(OPENSSL.split(), cwd=folder, check=True, capture_output=True)
        ports = [free_port() for _ in range(4)]
        config = (ROOT / "bench" / "nginx.conf").read_text()
        upstream = settings["AWS_ENDPOINT_URL_S3"] if settings else f"http://127.0.0.1:{ports[0]}"
        # a mask of the processors, the first one last
        affinity = f"worker_cpu_affinity 1{'0' * PROCESSOR};" if PROCESSOR is not None else ""
        filled = {
            "@AFFINITY@": affinity,
            "@FOLDER@": str(folder),
            "@MODULES@": str(MODULES),
            "@UPSTREAM@": upstream.removeprefix("http://"),
        }
        names = ("@PORT@", "@TLS_PORT@", "@FAULTS_PORT@", "@S3_PORT@")
        for name, value in [*filled.items(), *zip(names, map(str, ports), strict=True)]:
            config = config.replace(name, value)
        # else the workers run as nobody, who can't read the temporary folder
        if os.geteuid() == 0:
            config = "user root;\n" + config
        (folder / "nginx.conf").write_text(config)
        server = subprocess.Popen([program, "-p", folder, "-c", folder / "nginx.conf"])
        stack.callback(server.wait)
        stack.callback(server.terminate)
        for port in ports:
            await_port(port)
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        # the credentials of the real S3, too: boto3 keeps in a process those that it has found first
        env = settings or UNCHECKED
        trusted = env | {"AWS_CA_BUNDLE": str(folder / "cert.pem")}
        self.plain[:0] = [
            Place(NGINX, urls[0], env),
            Place(NGINX_TLS, urls[1].replace("http:", "https:"), trusted),
        ]
        self.far.append(Place(NGINX, urls[2], env))
        if settings:
            self.far.append(Place(RGW, urls[3], settings))


def say(text: str) -> None:
    """Print a line to standard error, beside the figures."""
    print(text, file=sys.stderr, flush=True)


def find_nginx() -> str | None:
    """Find the program of nginx; None if it or its Lua module is not installed."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    return program if (MODULES / "ngx_http_lua_module.so").exists() else None


def install_nginx() -> str | None:
    """Install the Debian packages of nginx, and return its program; None if that fails."""
    if os.geteuid() or not shutil.which("apt-get"):
        return None
    say(f"installing {' '.join(NGINX_PACKAGES)}")
    # In runlevel 1, Debian's scripts install nginx without starting it.
    env = os.environ | {
        "DEBIAN_FRONTEND": "noninteractive",
        "RUNLEVEL": "1",
    }
    for command in (["update"], ["install", "-y", "--no-install-recommends", *NGINX_PACKAGES]):
        done = subprocess.run(["apt-get", "-qq", *command], env=env, capture_output=True, text=True)
        if done.returncode:
            say(done.stderr.strip())
    return find_nginx()


def free_port() -> int:
    """Find a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def await_port(port: int) -> None:
    """Wait until a server listens at a port."""
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nothing listens at {port}")
