"""S3 servers behind IPv6, behind TLS with certificates of one's own, and where the requester pays for each request."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from lookalike import Answer, Asked, Lookalike
from s3server import close_idle_connections, forget_clients

import blobpack
from blobpack import S3Options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faultserver import FaultServer
    from s3server import S3Server

MEMBERS = {f"{number:02}.txt": b"%d" % number * 900 for number in range(12)}


@pytest.fixture
def url(s3_env: S3Server, bucket: str) -> str:
    blobpack.pack(MEMBERS, f"s3://{bucket}/out.tar", all_files=True)
    return f"s3://{bucket}/out.tar"


def pump(source: socket.socket, target: socket.socket) -> None:
    """Send on what arrives, until one side closes."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def ipv6(s3_env: S3Server) -> Iterator[str]:
    """The URL of a relay that listens on ::1 and passes bytes to the server."""
    server = urlsplit(s3_env.endpoint)
    with ExitStack() as stack:
        try:
            listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError as exc:
            pytest.skip(f"this machine has no IPv6: {exc}")
        stack.enter_context(listener)

        def relay() -> None:
            # closing the listener ends the loop
            with suppress(OSError):
                while True:
                    client = stack.enter_context(listener.accept()[0])
                    upstream = stack.enter_context(
                        socket.create_connection((server.hostname, server.port))
                    )
                    for pair in ((client, upstream), (upstream, client)):
                        threading.Thread(target=pump, args=pair, daemon=True).start()

        thread = threading.Thread(target=relay)
        thread.start()
        yield f"http://[::1]:{listener.getsockname()[1]}"
        forget_clients()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_an_ipv6_endpoint_is_read_listed_and_written(ipv6: str, url: str, tmp_path: Path) -> None:
    options = S3Options(endpoint_url=ipv6)
    with blobpack.open(url, s3=options) as blob:
        assert dict(blob.items()) == MEMBERS
        assert blob.stats.boto3_reads == 0
    blobpack.append(url, {"new.txt": b"new"}, all_files=True, s3=options)
    folder = url.removesuffix("out.tar")
    assert blobpack.collect(folder, tmp_path / "all.idx", s3=options).members == len(MEMBERS) + 1


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_certificates_of_ones_own_are_trusted(
    name: str,
    url: str,
    tls_proxy: FaultServer,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for other in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(other, raising=False)
    options = S3Options(endpoint_url=tls_proxy.endpoint)
    forget_clients()
    with pytest.raises(blobpack.StorageError, match="CERTIFICATE_VERIFY_FAILED"):
        blobpack.open(url, s3=options)
    monkeypatch.setenv(name, str(certificate[0]))
    forget_clients()
    with blobpack.open(url, s3=options) as blob:
        assert dict(blob.items()) == MEMBERS
        assert blob.stats.boto3_reads == 0


class Toll(Lookalike):
    """A fake of a requester-pays bucket: it refuses each request that does not agree to pay."""

    def refuse(self, asked: Asked) -> Answer | None:
        if "x-amz-request-payer" not in asked.headers:
            return Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
        return super().refuse(asked)


def test_every_request_agrees_to_pay(s3_env: S3Server, bucket: str, tmp_path: Path) -> None:
    for name, payload in MEMBERS.items():
        s3_env.put(bucket, f"loose/{name}", payload)
    place = f"s3://{bucket}/"
    large = {"large": bytes(9 << 20)}
    with Toll(s3_env) as server:
        pays = S3Options(endpoint_url=server.endpoint, requester_pays=True)
        blobpack.pack(f"{place}loose/", f"{place}out.tar", all_files=True, s3=pays)
        # in parts, which the append copies
        blobpack.pack(large, f"{place}large.tar", all_files=True, s3=pays)
        blobpack.append(f"{place}large.tar", f"{place}loose/", all_files=True, s3=pays)
        blobpack.pack_shards(f"{place}loose/", f"{place}set/", 9000, all_files=True, s3=pays)
        blobpack.append(f"{place}set/", {"new.txt": b"new"}, all_files=True, s3=pays)
        blobpack.collect(f"{place}set/*.tar", f"{place}all.idx", s3=pays)
        blobpack.extract(f"{place}out.tar", f"{place}files/", s3=pays)
        assert blobpack.verify(f"{place}large.tar", s3=pays).ok
        with blobpack.open(f"{place}large.tar", s3=pays) as blob:
            assert dict(blob.items()) == MEMBERS | large
        with pytest.raises(blobpack.StorageError):
            blobpack.open(f"{place}out.tar", s3=S3Options(endpoint_url=server.endpoint))
        close_idle_connections()
