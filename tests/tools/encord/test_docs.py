"""The examples of docs/guides/encord.md that need Encord's SDK run against the recorder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import encord_files
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from encord_server import EncordServer
from pages import DOCS, Runner, blocks

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TOOL = "encord"


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    key = Ed25519PrivateKey.generate()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "encord").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    )
    encord_files.blob(tmp_path)
    with EncordServer() as server:
        monkeypatch.setenv("ENCORD_DOMAIN", server.domain)
        runner = Runner()
        runner.shell(f"blobpack encord export images.tar files/ --url {encord_files.BASE}")
        mine = [block for block in blocks(DOCS / "guides" / "encord.md") if block.tool == TOOL]
        assert mine
        for block in mine:
            # the environment has the SDK already
            lines = [line for line in block.code.splitlines(keepends=True) if "pip " not in line]
            runner.run(replace(block, code="".join(lines)))
        assert [len(sent["externalFiles"]["images"]) for sent in server.sent] == [7]
