"""The files that docs/guides/serve.md shows, for nginx and systemd, do what the page says."""

import configparser
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from gatewayserver import Client, serving

import blobpack
from blobpack.cli.main import main
from blobpack.gateway.app import gateway_app

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "serve.md"
ODD = ["a b.png", "a%2Fb", "x%2f..%2Fy", "c/%20", "ü+?#&.jpg", "plain.jpg"]


def block(language):
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return found


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def replaced(text, old, new):
    assert old in text
    return text.replace(old, new)


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_names_pass_nginx_as_they_were_sent(tmp_path):
    blobpack.pack({name: name.encode() for name in ODD}, tmp_path / "out.tar", all_files=True)
    with (
        blobpack.open_blob(tmp_path / "out.tar") as blob,
        serving(gateway_app({"out": blob})) as client,
    ):
        port = free_port()
        config = replaced(block("nginx"), "127.0.0.1:8123", f"127.0.0.1:{client.port}")
        config = replaced(config, "listen 443 ssl", f"listen 127.0.0.1:{port}")
        config = replaced(config, "/var/cache/nginx/images", str(tmp_path / "cache"))
        folders = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # else root's workers run as nobody, who can't write here
        user = "user root;" if os.geteuid() == 0 else ""
        path = tmp_path / "nginx.conf"
        path.write_text(
            f"{user} daemon off; pid {tmp_path}/pid; error_log stderr; events {{}} http {{ {folders} {config} }}"
        )
        nginx = subprocess.Popen(["nginx", "-p", tmp_path, "-c", path, "-e", "stderr"])
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    assert nginx.poll() is None, "nginx ended"
                    time.sleep(0.02)
            behind = Client(port)
            version = client.ask("/api/v1/blobs").json["blobs"][0]["pinned_url"]
            for name in blob:
                quoted = "".join(f"%{byte:02X}" for byte in name.encode())
                for place in ("/b/out/", version):
                    direct, through = client.ask(place + quoted), behind.ask(place + quoted)
                    assert (direct.status, direct.body) == (200, name.encode())
                    assert (through.status, through.body) == (200, name.encode())
                    assert through.headers["etag"] == direct.headers["etag"]
                    again = behind.ask(place + quoted, if_none_match=direct.headers["etag"])
                    assert (again.status, again.body) == (304, b"")
            # only what never changes is kept
            assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == len(
                blob
            )
        finally:
            nginx.terminate()
            nginx.wait()


def test_the_unit_starts_a_command_that_exists(tmp_path):
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string(block("ini"))
    (tmp_path / "keys").write_text("key:secret")
    line = replaced(unit["Service"]["ExecStart"], "${CREDENTIALS_DIRECTORY}", str(tmp_path))
    program, command, *arguments = shlex.split(line)
    assert program.endswith("/blobpack")
    assert main.commands[command].make_context(command, arguments).params["keys"]
