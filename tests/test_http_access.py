"""How http(s) blobs are reached: headers, tokens, Hugging Face, proxies, certificates and IPv6."""

from __future__ import annotations

import os
import pickle
import socket
import ssl
import subprocess
import sys
import threading
from base64 import b64encode
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from click.testing import CliRunner
from faultserver import FaultServer
from webserver import WebServer

import blobpack
from blobpack import S3Options, StorageError
from blobpack.cli.main import main
from blobpack.stores.http.proxy import proxy_for
from blobpack.stores.http.retry import UnreachableFault
from blobpack.stores.location import Location
from blobpack.stores.s3 import signing
from blobpack.stores.s3.bucket import Bucket, ObjectKey
from blobpack.stores.s3.signing import NeedsBoto3Error, Signatures, sign

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3server import S3Server

MEMBERS = {"a.txt": b"a" * 700, "b.txt": b"b" * 700}


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, no certificates, and nobody who has logged in to Hugging Face."""
    for name in list(os.environ):
        if name.lower().endswith(("_proxy", "_ca_bundle")) or name.startswith(("HF_", "SSL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nobody"))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    """A web server with a blob."""
    (tmp_path / "web").mkdir()
    blobpack.pack(MEMBERS, tmp_path / "web" / "out.tar", all_files=True)
    with WebServer(tmp_path / "web") as server:
        yield server


def sent(web: WebServer, name: str) -> list[str | None]:
    return [request.headers.get(name) for request in web.requests]


class TestHeaders:
    def test_each_request_has_them(self, web):
        with blobpack.open(f"{web.url}out.tar", headers={"X-Trace": "1", "Cookie": "a=b"}) as blob:
            assert blob.read("b.txt") == MEMBERS["b.txt"]
        assert len(web.requests) == 2
        assert set(sent(web, "x-trace")) == {"1"}
        assert set(sent(web, "cookie")) == {"a=b"}

    def test_a_token_is_sent_and_its_file_is_read_again(self, web, tmp_path):
        blobpack.open(f"{web.url}out.tar", bearer_token="secret")
        token = tmp_path / "token"
        token.write_text("first\n")
        blob = blobpack.open(f"{web.url}out.tar", bearer_token=token)
        token.write_text("second\n")
        again = pickle.loads(pickle.dumps(blob))
        assert again.read("a.txt") == MEMBERS["a.txt"]
        # each once, in order
        assert list(dict.fromkeys(sent(web, "authorization"))) == [
            "Bearer secret",
            "Bearer first",
            "Bearer second",
        ]

    def test_a_file_that_holds_none_is_an_error(self, web, tmp_path):
        (tmp_path / "token").write_text("two words\n")
        with pytest.raises(StorageError, match="holds no bearer token"):
            blobpack.open(f"{web.url}out.tar", bearer_token=tmp_path / "token")
        with pytest.raises(StorageError, match="can't be read"):
            blobpack.open(f"{web.url}out.tar", bearer_token=tmp_path / "nothing")

    def test_a_redirect_to_another_server_does_not_get_them(self, web, tmp_path):
        with WebServer(tmp_path / "web") as other:
            web.does.redirects["/moved.tar"] = f"{other.url}out.tar"
            web.does.redirects["/here.tar"] = f"{web.url}out.tar"
            with blobpack.open(f"{web.url}moved.tar", bearer_token="secret") as blob:
                assert blob.read("a.txt") == MEMBERS["a.txt"]
            assert set(sent(other, "authorization")) == {None}
            with blobpack.open(f"{web.url}here.tar", bearer_token="secret") as blob:
                assert blob.read("a.txt") == MEMBERS["a.txt"]
        assert set(sent(web, "authorization")) == {"Bearer secret"}

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"headers": {"Range": "bytes=0-1"}}, ValueError),
            ({"headers": {"If-Match": "x"}}, ValueError),
            ({"headers": {"X": "a\r\nHost: other"}}, ValueError),
            ({"headers": {"X Y": "a"}}, ValueError),
            ({"headers": {"X": 1}}, TypeError),
            ({"headers": ["X: 1"]}, TypeError),
            ({"bearer_token": "two words"}, ValueError),
            ({"bearer_token": b"x"}, TypeError),
            ({"bearer_token": "x", "headers": {"authorization": "Basic x"}}, ValueError),
        ],
    )
    def test_what_can_not_be_sent_is_misuse(self, options, error):
        with pytest.raises(error):
            blobpack.open("http://127.0.0.1:1/out.tar", **options)

    @pytest.mark.parametrize("options", [{"headers": {"X": "y"}}, {"bearer_token": "t"}])
    def test_secrets_are_not_pickled(self, web, options):
        with (
            blobpack.open(f"{web.url}out.tar", **options) as blob,
            pytest.raises(TypeError, match="can't be pickled"),
        ):
            pickle.dumps(blob)

    def test_commands_take_them(self, web, tmp_path):
        (tmp_path / "token").write_text("secret")
        options = ["--header", "X-Trace: 7", "--bearer-token", str(tmp_path / "token")]
        done = CliRunner().invoke(main, ["cat", f"{web.url}out.tar", "a.txt", *options])
        assert done.stdout_bytes == MEMBERS["a.txt"]
        assert set(sent(web, "authorization")) == {"Bearer secret"}
        assert set(sent(web, "x-trace")) == {"7"}
        done = CliRunner().invoke(main, ["ls", f"{web.url}out.tar", "--header", "Range: x"])
        assert done.exit_code == 2


class TestHuggingFace:
    @pytest.fixture
    def hub(self, web, monkeypatch) -> WebServer:
        """A server with the paths of Hugging Face, which redirects to a file as Hugging Face does."""
        monkeypatch.setenv("HF_ENDPOINT", web.url.rstrip("/"))
        folder = web.folder / "datasets" / "me" / "cats" / "resolve" / "main"
        folder.mkdir(parents=True)
        (web.folder / "out.tar").rename(folder / "out.tar")
        return web

    def test_a_gated_file_is_read_with_the_token(self, hub, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_x")
        with blobpack.open("hf://datasets/me/cats/out.tar") as blob:
            assert blob.read("a.txt") == MEMBERS["a.txt"]
            assert pickle.loads(pickle.dumps(blob)).read("b.txt") == MEMBERS["b.txt"]
        assert set(sent(hub, "authorization")) == {"Bearer hf_x"}

    def test_the_token_of_a_login_is_found_and_another_one_wins(self, hub, tmp_path):
        (tmp_path / "nobody").mkdir()
        (tmp_path / "nobody" / "token").write_text("hf_login\n")
        blobpack.open("hf://datasets/me/cats/out.tar")
        blobpack.open("hf://datasets/me/cats/out.tar", bearer_token="mine")
        assert sent(hub, "authorization") == ["Bearer hf_login", "Bearer mine"]

    def test_no_other_server_gets_it(self, hub, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_x")
        with WebServer(tmp_path / "web" / "datasets/me/cats/resolve/main") as other:
            blobpack.open(f"{other.url}out.tar")
            assert set(sent(other, "authorization")) == {None}

    @pytest.mark.parametrize(
        ("url", "whole"),
        [
            ("hf://me/model/a/b.tar", "/me/model/resolve/main/a/b.tar"),
            ("hf://datasets/me/x@v1.0/b c.tar", "/datasets/me/x/resolve/v1.0/b%20c.tar"),
            (
                "hf://datasets/me/x@refs/convert/parquet/b.tar",
                "/datasets/me/x/resolve/refs%2Fconvert%2Fparquet/b.tar",
            ),
            ("hf://spaces/me/x/b.tar", "/spaces/me/x/resolve/main/b.tar"),
        ],
    )
    def test_urls(self, url, whole):
        assert Location.parse(url).whole == f"https://huggingface.co{whole}"

    def test_a_url_that_names_no_file_is_misuse(self):
        with pytest.raises(ValueError, match="hf://datasets/USER/NAME/path"):
            blobpack.open("hf://datasets/me")


class Proxy(ThreadingTCPServer):
    """A proxy: passes requests without a body on, and opens tunnels.

    Attributes:
        heads: The heads of all requests that came.
        refuses: Status line of all answers; "" to answer as a proxy.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.heads: list[bytes] = []
        self.refuses = b""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()
        self.server_close()


class Tunnel(StreamRequestHandler):
    """Serves one connection: requests for one server, or one tunnel."""

    server: Proxy

    def handle(self) -> None:
        """Serve requests until the client closes."""
        while head := self.read_head():
            self.server.heads.append(head)
            if self.server.refuses:
                self.wfile.write(self.server.refuses + b"\r\nContent-Length: 0\r\n\r\n")
                return
            method, url, _ = head.split(b" ", 2)
            place = url if method == b"CONNECT" else url.split(b"/")[2]
            host, _, port = place.rpartition(b":")
            with socket.create_connection((host.decode().strip("[]"), int(port))) as upstream:
                back = threading.Thread(target=pass_on, args=(upstream, self.connection))
                if method == b"CONNECT":
                    self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    back.start()
                    pass_on(self.connection, upstream)
                else:
                    back.start()
                    self.forward(head, place, upstream)
                back.join()
                return

    def forward(self, head: bytes, place: bytes, upstream: socket.socket) -> None:
        """Pass the requests of one connection on: none of them has a body."""
        while head:
            upstream.sendall(head.replace(b" http://" + place, b" ", 1))
            if head := self.read_head():
                self.server.heads.append(head)
        upstream.shutdown(socket.SHUT_WR)

    def read_head(self) -> bytes:
        """Read a request's head, byte by byte."""
        head = b""
        while not head.endswith(b"\r\n\r\n") and (came := self.connection.recv(1)):
            head += came
        return head


def pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as server:
        yield server


class TestProxies:
    def test_http_goes_through_it(self, web, proxy, monkeypatch):
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//me:pass%40word@"))
        with blobpack.open(f"{web.url}out.tar") as blob:
            assert blob.read("a.txt") == MEMBERS["a.txt"]
        head = proxy.heads[0]
        assert head.startswith(f"GET {web.url}out.tar HTTP/1.1\r\n".encode())
        user = b64encode(b"me:pass@word")
        assert b"\r\nProxy-Authorization: Basic " + user + b"\r\n" in head

    def test_https_goes_through_a_tunnel(self, tls, proxy, monkeypatch):
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("AWS_CA_BUNDLE", tls.ca)
        with blobpack.open(f"{tls.endpoint}/out.tar") as blob:
            assert blob.read("a.txt") == MEMBERS["a.txt"]
        place = tls.endpoint.partition("//")[2].encode()
        assert [head.split(b"\r\n")[0] for head in proxy.heads] == [
            b"CONNECT " + place + b" HTTP/1.1"
        ]

    @pytest.mark.parametrize("name", ["no_proxy", "https_proxy", "ftp_proxy"])
    def test_what_does_not_concern_http_is_none(self, web, monkeypatch, name):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert blobpack.open(f"{web.url}out.tar").read("a.txt") == MEMBERS["a.txt"]

    def test_no_proxy_wins_and_all_proxy_counts(self, monkeypatch):
        monkeypatch.setenv("all_proxy", "127.0.0.1:3128")
        assert proxy_for("https", "example.org", 443)[:2] == ("127.0.0.1", 3128)
        monkeypatch.setenv("no_proxy", "example.org")
        assert proxy_for("https", "example.org", 443) is None

    @pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "https://127.0.0.1:1"])
    def test_another_kind_of_proxy_is_named(self, web, monkeypatch, url):
        monkeypatch.setenv("http_proxy", url)
        with pytest.raises(StorageError, match="only http:// proxies"):
            blobpack.open(f"{web.url}out.tar")

    def test_a_proxy_that_refuses_is_named(self, tls, proxy, monkeypatch):
        monkeypatch.setenv("https_proxy", proxy.url)
        proxy.refuses = b"HTTP/1.1 407 Proxy Authentication Required"
        with pytest.raises(StorageError, match=r"the proxy 127.0.0.1:\d+ refused: .* 407"):
            blobpack.open(f"{tls.endpoint}/out.tar")


class Tls(FaultServer):
    """A server with TLS in front of a web server, and the file of its certificate."""

    ca: str


@pytest.fixture
def tls(web: WebServer, certificate: tuple[Path, Path]) -> Iterator[Tls]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Tls(web.url, tls=context) as server:
        server.ca = str(certificate[0])
        yield server


class TestCertificates:
    @pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
    def test_each_variable_is_honoured(self, tls, name):
        code = (
            "import blobpack, sys\n"
            "with blobpack.open(sys.argv[1]) as blob: print(blob.read('a.txt') == b'a' * 700)\n"
        )
        # a process of its own, because OpenSSL reads SSL_CERT_FILE once
        done = subprocess.run(
            [sys.executable, "-c", code, f"{tls.endpoint}/out.tar"],
            env=os.environ | {name: tls.ca},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("True\n", "")

    def test_without_them_it_is_not_trusted(self, tls):
        with pytest.raises(StorageError, match=r"certificate .* is not trusted"):
            blobpack.open(f"{tls.endpoint}/out.tar")

    def test_certificates_that_are_missing_are_named(self, tls, monkeypatch):
        monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
        with pytest.raises(
            StorageError, match=r"the certificates of /nowhere/ca.pem can't be read"
        ):
            blobpack.open(f"{tls.endpoint}/out.tar")


class TestFastConnections:
    """Reads from S3 stay on our own connections where the environment only looks unusual."""

    @pytest.fixture
    def url(self, s3_env: S3Server, bucket: str) -> str:
        blobpack.pack(MEMBERS, f"s3://{bucket}/out.tar", all_files=True)
        return f"s3://{bucket}/out.tar"

    @pytest.mark.parametrize(
        ("name", "value"),
        [("no_proxy", "localhost"), ("https_proxy", "http://127.0.0.1:1"), ("ftp_proxy", "x")],
    )
    def test_with_what_does_not_concern_it(self, s3_env, url, monkeypatch, name, value):
        monkeypatch.setenv(name, value)
        with blobpack.open(url) as blob:
            assert blob.read("a.txt") == MEMBERS["a.txt"]
            assert blob.stats.boto3_reads == 0

    def test_reads_through_boto3_are_in_the_statistics(self, s3_env, url, monkeypatch):
        monkeypatch.setenv("BLOBPACK_S3", "boto3")
        with blobpack.open(url) as blob:
            assert blob.read("a.txt") == MEMBERS["a.txt"]
            assert blob.read("b.txt") == MEMBERS["b.txt"]
            stats = blob.stats
        reason = "BLOBPACK_S3 is set to boto3"
        assert (stats.boto3_reads, stats.boto3_reason) == (2, reason)
        assert f"2 reads through boto3 ({reason})" in str(stats)
        done = CliRunner().invoke(main, ["cat", url, "a.txt", "--stats"])
        assert f"through boto3 ({reason})" in done.stderr

    @pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
    def test_a_default_port_is_not_in_the_host_that_is_signed(self, no_aws, scheme, port):
        heads = []
        for endpoint in (f"{scheme}://127.0.0.1:{port}", f"{scheme}://127.0.0.1"):
            options = S3Options(
                session=boto3.Session("a", "b", region_name="x"), endpoint_url=endpoint
            )
            target = ObjectKey(Bucket("bucket", options=options), "key")
            ranged_get = sign(target, '"1"')
            assert ranged_get.pool.origin[:2] == ("127.0.0.1", port)
            heads.append([line for line in ranged_get.head.split(b"\r\n") if b"Host" in line])
        assert heads == [[b"Host: 127.0.0.1"]] * 2

    def test_ipv6_in_an_endpoint(self, no_aws):
        options = S3Options(anonymous=True, endpoint_url="http://[::1]:9000", region="x")
        ranged_get = sign(ObjectKey(Bucket("bucket", options=options), "key"), '"1"')
        assert ranged_get.pool.origin[:2] == ("::1", 9000)
        assert b"\r\nHost: [::1]:9000\r\n" in ranged_get.head


class TestProxiesOfS3:
    """Requests for S3 that our own connections send through a proxy."""

    @pytest.fixture(autouse=True)
    def no_exception(self, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """The tests' server is no exception from the proxy."""
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)

    def test_a_request_names_its_server(self, s3_env, bucket, proxy, monkeypatch):
        url = f"s3://{bucket}/a b.tar"
        blobpack.pack(MEMBERS, url, all_files=True)
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//me:pass%40word@"))
        with blobpack.open(url) as blob:
            assert [blob.read(name) for name in MEMBERS] == list(MEMBERS.values())
            assert blob.stats.boto3_reads == 0
        user = b64encode(b"me:pass@word")
        mine = [head for head in proxy.heads if b"\r\nUser-Agent: blobpack\r\n" in head]
        assert len(mine) == 2
        for head in mine:
            assert head.startswith(
                f"GET {s3_env.endpoint}/{bucket}/a%20b.tar HTTP/1.1\r\n".encode()
            )
            assert b"\r\nProxy-Authorization: Basic " + user + b"\r\n" in head

    def test_objects_share_a_signature(self, s3_env, bucket, proxy, monkeypatch, tmp_path):
        for name, payload in MEMBERS.items():
            s3_env.client.put_object(Bucket=bucket, Key=f"in/{name}", Body=payload)
        monkeypatch.setenv("http_proxy", proxy.url)
        blobpack.pack(f"s3://{bucket}/in", tmp_path / "out.tar", all_files=True)
        with blobpack.open(tmp_path / "out.tar") as blob:
            assert dict(blob.items()) == MEMBERS
        target = ObjectKey(Bucket(bucket), "in/a.txt")
        signatures = Signatures()
        assert signatures.ranged_get_of(target, "")
        # boto3 signs once
        monkeypatch.setattr(signing, "sign", None)
        head = signatures.ranged_get_of(ObjectKey(Bucket(bucket), "in/b.txt"), "").head
        assert head.startswith(f"GET {s3_env.endpoint}/{bucket}/in/b.txt HTTP/1.1\r\n".encode())

    @pytest.mark.parametrize("anonymous", [False, True])
    def test_a_tunnel_hides_the_request(self, no_aws, proxy, monkeypatch, anonymous):
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//me:word@"))
        session = boto3.Session("a", "b", region_name="x")
        account = {"anonymous": True, "region": "x"} if anonymous else {"session": session}
        options = S3Options(endpoint_url="https://127.0.0.1:1", **account)
        ranged_get = sign(ObjectKey(Bucket("bucket", options=options), "key"), '"1"')
        assert ranged_get.head.startswith(b"GET /bucket/key HTTP/1.1\r\n")
        assert b"Proxy-Authorization" not in ranged_get.head
        assert f"http://{ranged_get.pool.origin.proxy.host}" in proxy.url
        with pytest.raises(UnreachableFault, match=r"the proxy 127.0.0.1"):
            proxy.refuses = b"HTTP/1.1 502 Bad Gateway"
            ranged_get.pool.take()
        assert proxy.heads[0].startswith(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n")

    @pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "https://127.0.0.1:1"])
    def test_another_kind_of_proxy_is_left_to_boto3(self, no_aws, monkeypatch, url):
        monkeypatch.setenv("http_proxy", url)
        options = S3Options(anonymous=True, endpoint_url="http://127.0.0.1:9000", region="x")
        with pytest.raises(NeedsBoto3Error, match="a proxy that is not http://"):
            sign(ObjectKey(Bucket("bucket", options=options), "key"), '"1"')

    def test_settings_of_a_proxy_are_left_to_boto3(self, no_aws, proxy):
        settings = Config(
            proxies={"http": proxy.url}, proxies_config={"proxy_use_forwarding_for_https": True}
        )
        session = boto3.Session("a", "b", region_name="x")
        session._session.set_default_client_config(settings)
        options = S3Options(session=session, endpoint_url="http://127.0.0.1:9000")
        with pytest.raises(NeedsBoto3Error, match="a proxy with settings of its own"):
            sign(ObjectKey(Bucket("bucket", options=options), "key"), '"1"')
