"""Encord's SDK judges the files, and sends them to a recorder on loopback, which shows what Encord would get."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import encord_files
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from encord import EncordUserClient
from encord.orm.storage import DataUploadItems
from encord_server import INTEGRATION, TITLE, EncordServer

import blobpack
from blobpack import FormatError, SourceError, StorageError
from blobpack.integrations.encord import check_registration, register, registration
from blobpack.integrations.encord.form.kinds import DICOM_TAGS, KINDS, MEDIA_FIELDS

PROGRAM = str(Path(sys.executable).with_name("blobpack"))


def pem(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


@pytest.fixture
def server():
    with EncordServer() as server:
        yield server


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(pem(Ed25519PrivateKey.generate()))
    return path


@pytest.fixture(autouse=True)
def no_key_of_the_environment(monkeypatch):
    for name in ("ENCORD_SSH_KEY", "ENCORD_SSH_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)


def without_defaults(value):
    """A document without what the SDK's models add to it."""
    if isinstance(value, dict):
        cleaned = {key: without_defaults(each) for key, each in value.items()}
        return {
            key: each
            for key, each in cleaned.items()
            if key != "externalFileType" and each not in ([], {}, None)
        }
    return [without_defaults(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", encord_files.FILES)
def test_the_sdk_accepts_and_keeps_every_file_of_its_own_form(name, tmp_path):
    for document in encord_files.make(name, tmp_path, "items"):
        assert check_registration(document) == []
        kept = DataUploadItems.from_dict(document).to_dict()
        assert without_defaults(kept) == without_defaults(document)


def test_the_tables_of_kinds_are_the_sdks():
    from encord.orm import storage

    fields = {field.alias: field for field in DataUploadItems.model_fields.values()}
    assert {kind.items_key for kind in KINDS.values()} <= set(fields)
    for key, known in MEDIA_FIELDS.items():
        name = key.removesuffix("Metadata").capitalize()
        model = (
            getattr(storage, f"CustomerProvided{name}Metadata", None)
            or storage.CustomerProvidedDicomSeriesDicomFileMetadata
        )
        assert {
            field: kind.annotation
            for field, kind in model.model_fields.items()
            if kind.annotation in (int, str, float)
        } == {field: kind for field, kind in known.items() if kind is not dict}
        assert set(model.model_fields) == set(known)
    text = storage.CustomerProvidedDicomSeriesDicomFileMetadata.__doc__
    assert all(tag in text for tag in DICOM_TAGS)
    assert text.count(": ") >= len(DICOM_TAGS)


@pytest.mark.parametrize("form", ["json", "items"])
def test_register_sends_exactly_the_files(server, key, tmp_path, form):
    documents = encord_files.make("all kinds", tmp_path, form)
    report = register(documents, integration=TITLE, folder="animals", key=key, domain=server.domain)
    assert report.is_new
    assert report.name == "animals"
    assert [job.status for job in report.jobs] == ["DONE"] * len(documents)
    assert not report.failed
    field = "externalFiles" if form == "json" else "dataItems"
    assert [without_defaults(sent[field]) for sent in server.sent] == list(
        map(without_defaults, documents)
    )
    assert all(sent["integrationHash"] == INTEGRATION for sent in server.sent)


def test_the_requests_are_those_of_the_sdk_itself(server, key, tmp_path):
    """What `register` sends equals what a script with the SDK sends."""
    (document,) = encord_files.make("images", tmp_path, "json")
    register([document], integration=INTEGRATION, folder="a", key=key, domain=server.domain)
    ours, server.requests = server.requests, []
    client = EncordUserClient.create_with_ssh_private_key(
        ssh_private_key_path=key, domain=server.domain
    )
    folder = client.create_storage_folder("a")
    job = folder.add_private_data_to_folder_start(INTEGRATION, document)
    folder.add_private_data_to_folder_get_result(job)
    # the folder is looked for first, so that a second run does not make a second one
    assert ours[0][:2] == ("GET", "storage/folders")
    changed = [request for request in ours[1:] if request[0] == "POST"]
    theirs = [request for request in server.requests if request[0] == "POST"]
    assert [body for *_, body in changed] == [body for *_, body in theirs]
    assert len(ours) == 4


def test_a_second_run_finds_the_folder(server, key, tmp_path):
    server.new_folder("animals of others")
    for is_new in (True, False):
        report = register(
            encord_files.make("images", tmp_path / str(is_new), "json"),
            integration=INTEGRATION,
            folder="animals",
            key=key,
            domain=server.domain,
        )
        assert report.is_new is is_new
    by_id = register(
        encord_files.make("images", tmp_path / "x", "json"),
        integration=INTEGRATION,
        folder=report.folder,
        key=key,
        domain=server.domain,
        wait=False,
    )
    assert by_id.folder == report.folder
    assert by_id.jobs[0].status == "PENDING"
    assert len(server.folders) == 2


def test_a_registration_is_registered_as_it_is_made(server, key, tmp_path):
    done = []
    with blobpack.open(encord_files.blob(tmp_path)) as reader:
        report = register(
            registration(reader, encord_files.BASE, chunk=2),
            integration=INTEGRATION,
            folder="a",
            key=key,
            domain=server.domain,
            progress=done.append,
        )
    assert len(report.jobs) == len(done) == 4
    assert sum(job.items for job in report.jobs) == 7


def test_errors_of_a_job(server, key, tmp_path):
    server.refused = "0002.png"
    (document,) = encord_files.make("images", tmp_path, "json")
    report = register(document, integration=INTEGRATION, folder="a", key=key, domain=server.domain)
    assert report.failed[0].status == "ERROR"
    assert report.failed[0].errors[0].endswith("0002.png: can't be read")


def test_errors_of_encord_are_ours(server, key, tmp_path):
    documents = encord_files.make("images", tmp_path, "json")
    given = {"integration": INTEGRATION, "folder": "a", "key": key, "domain": server.domain}
    with pytest.raises(StorageError, match=r"no integration has the title 'x'.*'gateway'"):
        register(documents, **given | {"integration": "x"})
    with pytest.raises(StorageError, match="was not found"):
        register(documents, **given | {"folder": "00000000-0000-0000-0000-0000000000ff"})
    server.errors = (403, "you may not")
    with pytest.raises(StorageError, match=server.domain):
        register(documents, **given)


def test_no_message_holds_the_key(server, tmp_path):
    documents = encord_files.make("images", tmp_path, "json")
    secret = tmp_path / "rsa"
    secret.write_bytes(pem(generate_private_key(65537, 2048)))
    given = {"integration": INTEGRATION, "folder": "a", "domain": server.domain}
    for content in (secret.read_bytes(), b"secret"):
        secret.write_bytes(content)
        with pytest.raises(ValueError, match="is no private Ed25519 key") as caught:
            register(documents, key=secret, **given)
        assert content.decode()[40:80] not in str(caught.value) or content == b"secret"
        assert caught.value.__suppress_context__
    with pytest.raises(SourceError):
        register(documents, key=tmp_path / "nowhere", **given)
    with pytest.raises(ValueError, match="ENCORD_SSH_KEY_FILE"):
        register(documents, **given)
    assert not server.requests


def test_nothing_is_sent_if_a_file_has_problems(server, key, tmp_path):
    good, bad = tmp_path / "1.json", tmp_path / "2.json"
    good.write_text(json.dumps(encord_files.make("images", tmp_path, "json")[0]))
    bad.write_text('{"images": [{"objectUrl": "https://h/a b"}]}')
    with pytest.raises(FormatError, match=r"2\.json: 1 problem:\n  images\[0\]: objectUrl holds"):
        register([good, bad], integration=INTEGRATION, folder="a", key=key, domain=server.domain)
    assert not server.requests


def test_the_commands(server, key, tmp_path):
    encord_files.blob(tmp_path)
    env = {**os.environ, "ENCORD_DOMAIN": server.domain, "ENCORD_SSH_KEY_FILE": str(key)}

    def run(*arguments, code=0):
        done = subprocess.run(
            [PROGRAM, "encord", *arguments], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    run("export", "images.tar", "files", "--url", encord_files.BASE, "--chunk", "4")
    out = run("register", "files", "--integration", TITLE, "--folder", "animals")
    assert out == "registered 7 items in the new folder 'animals' by 2 jobs\n"
    server.refused = "0002.png"
    out = run("register", "files", "--integration", TITLE, "--folder", "animals", "--json", code=1)
    found = json.loads(out)
    assert found["command"] == "encord register"
    assert [job["status"] for job in found["jobs"]].count("ERROR") == 1


def test_the_line_of_the_guide_stands_in_the_help():
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "encord.md").read_text()
    help_text = subprocess.run(
        [PROGRAM, "encord", "register", "--help"], capture_output=True, text=True, check=True
    ).stdout
    line = "blobpack encord register files/ --integration gateway --folder animals"
    assert f"\n{line}\n" in guide
    assert line in " ".join(help_text.split())
