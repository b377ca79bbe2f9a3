"""The commands `blobpack serve` and `blobpack token`, as processes."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest
from click.testing import CliRunner
from gatewayserver import Client

import blobpack
from blobpack.cli.main import main
from blobpack.gateway.tokens import ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE, Keys

PROGRAM = str(Path(sys.executable).with_name("blobpack"))
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(200))
# the tests' machine may be shared by many
TIMEOUT_S = 120
SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "schema.json").read_text())
KEYS = {ACCESS_KEY_VARIABLE: "key", SECRET_KEY_VARIABLE: "secret"}


@pytest.fixture
def folder(tmp_path):
    blobpack.pack({f"cats/{i}.jpg": JPEG + b"%d" % i for i in range(20)}, tmp_path / "out.tar")
    blobpack.pack({"large.jpg": JPEG + os.urandom(32 << 20)}, tmp_path / "large.tar")
    return tmp_path


@contextmanager
def server(folder, *arguments, **env):
    """A server process, and what it said of itself when it was ready."""
    process = subprocess.Popen(
        [PROGRAM, "serve", *arguments, "--port", "0", "--json"],
        cwd=folder,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def client_of(ready):
    return Client(urlsplit(ready["url"]).port)


def run(folder, *arguments, **env):
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_blobs_are_served_until_sigterm(folder):
    with server(folder, "out.tar", "large.tar", "--name", "cats") as (process, ready):
        assert ready["served"] == {"cats": 20, "large": 1}
        assert ready["s3_url"] is None
        jsonschema.validate(ready, SCHEMA)
        client = client_of(ready)
        assert ready["url"] == f"{client.url}/"
        assert client.ask("/b/cats/cats/7.jpg").body == JPEG + b"7"
        assert client.ask("/").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr.read() == ""
        with pytest.raises(ConnectionRefusedError):
            client.ask("/healthz")


def test_members_that_are_appended_are_served_without_a_restart(folder):
    with server(folder, "out.tar") as (_, ready):
        client = client_of(ready)
        assert client.ask("/b/out/more.jpg").status == 404
        blobpack.append(folder / "out.tar", {"more.jpg": JPEG})
        assert client.ask("/b/out/cats/7.jpg", Range="bytes=0-").body == JPEG + b"7"
        until = time.monotonic() + TIMEOUT_S
        while client.ask("/b/out/more.jpg").status == 404:
            assert time.monotonic() < until
        assert client.ask("/b/out/more.jpg").body == JPEG


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_is_answered_before_the_server_ends(folder, number):
    with ExitStack() as stack, server(folder, "large.tar") as (process, ready):
        client = client_of(ready)
        idle = stack.enter_context(socket.create_connection(("127.0.0.1", client.port)))
        busy = http.client.HTTPConnection("127.0.0.1", client.port, timeout=TIMEOUT_S)
        stack.callback(busy.close)
        busy.request("GET", "/b/large/large.jpg")
        answer = busy.getresponse()
        process.send_signal(number)
        # no new connections, and the idle one is closed
        idle.settimeout(TIMEOUT_S)
        assert idle.recv(1) == b""
        time.sleep(0.2)
        with pytest.raises(OSError):  # noqa: PT011 (refused, or reset)
            client.ask("/healthz")
        assert process.poll() is None
        assert len(answer.read()) == len(JPEG) + (32 << 20)
        assert process.wait(TIMEOUT_S) == 0


def test_a_batch_that_is_under_way_is_sent_whole_before_the_server_ends(folder):
    names = ["large.jpg", "large.jpg", "large.jpg"]
    with ExitStack() as stack, server(folder, "large.tar") as (process, ready):
        busy = http.client.HTTPConnection("127.0.0.1", client_of(ready).port, timeout=TIMEOUT_S)
        stack.callback(busy.close)
        busy.request("POST", "/batch", json.dumps({"blob": "large", "members": names}))
        answer = busy.getresponse()
        process.send_signal(signal.SIGTERM)
        with tarfile.open(fileobj=answer, mode="r|") as tar:
            sizes = {member.name: len(tar.extractfile(member).read()) for member in tar}
        assert sizes == {"large.jpg": len(JPEG) + (32 << 20)}
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr.read() == ""


def test_a_second_signal_ends_the_server_at_once(folder):
    with (
        server(folder, "large.tar") as (process, ready),
        socket.create_connection(("127.0.0.1", client_of(ready).port)) as connection,
    ):
        connection.sendall(b"GET /b/large/large.jpg HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(10)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT_S)


def test_both_faces_are_served_and_end_together(folder):
    with server(folder, "out.tar", "--s3-port", "0", "--s3-unsigned") as (process, ready):
        assert client_of(ready).ask("/b/out/cats/7.jpg").body == JPEG + b"7"
        s3 = Client(urlsplit(ready["s3_url"]).port)
        assert s3.ask("/out/cats/7.jpg").body == JPEG + b"7"
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0


def test_tokens_of_the_command_line_are_those_of_the_server(folder):
    token = run(folder, "token", "out/cats/", **KEYS).stdout.strip()
    assert token == Keys({"key": "secret"}).token("out/cats/")
    (folder / "keys").write_text("new:another\nkey:secret\n")
    found = json.loads(
        run(folder, "token", "*", "--expires", "2999-12-31", "--keys", "keys", "--json").stdout
    )
    assert found["expires"] == "2999-12-31"
    assert found["token"].startswith("v1.new.")
    with server(folder, "out.tar", "--keys", "keys", "--require-token") as (_, ready):
        client = client_of(ready)
        assert client.ask("/b/out/cats/7.jpg").status == 401
        assert client.ask(f"/k/{token}/b/out/cats/7.jpg").status == 200
        assert client.ask("/metrics", Authorization=f"Bearer {found['token']}").status == 200


def test_on_an_address_for_others_a_token_is_required(folder):
    with server(folder, "out.tar", "--host", "0.0.0.0", **KEYS) as (_, ready):
        assert client_of(ready).ask("/b/out/cats/7.jpg").status == 401
    with server(folder, "out.tar", "--host", "0.0.0.0", "--insecure-public") as (process, ready):
        assert client_of(ready).ask("/b/out/cats/7.jpg").status == 200
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT_S)
        assert "everybody who can reach 0.0.0.0" in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (["out.tar", "--host", "0.0.0.0"], {}, "--keys or a key pair"),
        (["out.tar", "--host", "example.org"], {}, "--keys or a key pair"),
        (["out.tar", "--host", "::"], {}, "--keys or a key pair"),
        (["out.tar", "--require-token"], {}, "needs a key pair"),
        (["out.tar", "--require-token", "--insecure-public"], KEYS, "does not go with"),
        (["out.tar", "--s3-unsigned"], {}, "needs --s3-port"),
        (["out.tar", "--s3-port", "0"], {}, "needs a key pair or --s3-unsigned"),
        (
            ["out.tar", "--s3-port", "0", "--s3-unsigned", "--host", "0.0.0.0"],
            KEYS,
            "--insecure-public",
        ),
        (["out.tar", "./out.tar"], {}, "have one name, 'out'"),
        (["out.tar", "--name", "a", "--name", "b"], {}, "more --name"),
        (["out.tar", "--name", "/a"], {}, "can't be the name"),
        (["out.tar", "--name", ""], {}, "can't be the name"),
        (["out.tar", "--port", "65536"], {}, "--port"),
        (["out.tar", "--keys", "out.tar"], {}, "--keys"),
        (["out.tar", "--keys", "none"], {}, "none"),
        (["out.tar"], {ACCESS_KEY_VARIABLE: "key"}, "set both"),
        (["out.tar"], {ACCESS_KEY_VARIABLE: "a b", SECRET_KEY_VARIABLE: "hidden"}, "access key"),
        ([], {}, "[BLOB]..."),
    ],
)
def test_wrong_usage(folder, monkeypatch, arguments, env, message):
    monkeypatch.chdir(folder)
    done = CliRunner(env=env).invoke(main, ["serve", *arguments])
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split())
    assert "hidden" not in done.output


def test_errors_name_what_is_wrong(folder):
    done = run(folder, "serve", "none.tar")
    assert (done.returncode, done.stderr) == (1, "Error: none.tar: no such file\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(folder, "serve", "out.tar", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "can't listen on 127.0.0.1 port" in done.stderr
    done = CliRunner().invoke(main, ["token", "out"])
    assert done.exit_code == 2
    assert "a token needs a key pair" in done.output


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_extra_the_message_says_how_to_install_it(folder, package):
    code = f"import sys; sys.modules[{package!r}] = None; sys.argv[1:] = ['serve', 'out.tar']; from blobpack.cli.program import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 1
    assert "pip install 'blobpack[serve]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_server_says_where_it_listens(folder):
    process = subprocess.Popen(
        [PROGRAM, "serve", "out.tar", "--port", "0", "--host", "localhost"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "out: 20 members of out.tar\n"
        assert process.stdout.readline().startswith("serving at http://localhost:")
    finally:
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
        process.stdout.close()
