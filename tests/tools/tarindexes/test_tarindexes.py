"""hfutils, ratarmount and fsspec read members by blobpack's indexes, and blobpack reads members by theirs."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing

import fsspec
import pytest
from foreign_indexes import SAMPLES, TAR, rows_of
from hfutils.index import tar_create_index, tar_file_download, tar_list_files
from ratarmountcore.mountsource.factory import open_mount_source

import blobpack

ROWS = rows_of(TAR)
PAYLOADS = {name: TAR.read_bytes()[start:end] for name, (start, end) in ROWS.items()}


@pytest.fixture
def tar(tmp_path):
    """A copy of the tar of all samples."""
    return shutil.copy(TAR, tmp_path / "samples.tar")


def payloads_by(index, tar):
    with blobpack.open_blob(tar, index=index) as blob:
        return dict(zip(blob.index.names, blob.read_many([*blob.index]), strict=True))


def test_the_sample_is_what_hfutils_writes(tar, tmp_path):
    tar_create_index(os.fspath(tar), os.fspath(tmp_path / "theirs.json"), silent=True)
    assert (tmp_path / "theirs.json").read_bytes() == SAMPLES["hfutils"].read_bytes()
    assert payloads_by(tmp_path / "theirs.json", tar) == PAYLOADS


def test_hfutils_reads_by_ours(tar, tmp_path):
    blobpack.write_foreign_index(tar, tmp_path / "samples.json", "hfutils")
    assert sorted(tar_list_files(os.fspath(tar))) == sorted(PAYLOADS)
    for name, payload in PAYLOADS.items():
        tar_file_download(os.fspath(tar), name, os.fspath(tmp_path / "file"))
        assert (tmp_path / "file").read_bytes() == payload


def files_of(database):
    """Return the rows of files, without the kind of a file, which ratarmount stores in two ways."""
    columns = (
        "path, name, offset, size, mode, mtime, uid, gid, linkname, istar, issparse, recursiondepth"
    )
    with closing(sqlite3.connect(database)) as file:
        return set(
            file.execute(f"SELECT {columns} FROM files WHERE size > 0 OR name = 'empty.txt'")
        )


def test_the_sample_is_what_ratarmount_writes(tar, tmp_path):
    made = os.fspath(tmp_path / "theirs.sqlite")
    open_mount_source(os.fspath(tar), indexFilePath=made, writeIndex=True)
    assert files_of(made) == files_of(SAMPLES["ratarmount"])
    assert payloads_by(made, tar) == PAYLOADS


def test_our_database_has_the_files_of_ratarmounts(tar, tmp_path):
    blobpack.write_foreign_index(tar, tmp_path / "ours.sqlite", "ratarmount")
    assert files_of(tmp_path / "ours.sqlite") == files_of(SAMPLES["ratarmount"])


def test_ratarmount_reads_by_ours(tar, tmp_path, capfd):
    ours = tmp_path / "samples.tar.index.sqlite"
    blobpack.write_foreign_index(tar, ours, "ratarmount")
    before = ours.read_bytes()
    mounted = open_mount_source(os.fspath(tar), writeIndex=True)
    assert set(mounted.list("/")) == {"cats", "dogs", "empty.txt"}
    for name, payload in PAYLOADS.items():
        with mounted.open(mounted.lookup(f"/{name}")) as file:
            assert file.read() == payload
    out = capfd.readouterr().out
    assert "Successfully loaded offset dictionary" in out
    assert "Creating offset dictionary" not in out
    assert ours.read_bytes() == before


@pytest.mark.parametrize("remote", [False, True])
def test_fsspec_reads_by_ours(remote, tar, tmp_path):
    blobpack.write_foreign_index(tar, tmp_path / "refs.json", "kerchunk")
    files = fsspec.filesystem("reference", fo=os.fspath(tmp_path / "refs.json"))
    if remote:
        memory = fsspec.filesystem("memory")
        memory.pipe("/set/samples.tar", TAR.read_bytes())
        refs = json.loads((tmp_path / "refs.json").read_text())["refs"]
        refs = {
            key: value and ["memory://set/samples.tar", *value[1:]] for key, value in refs.items()
        }
        files = fsspec.filesystem("reference", fo=refs, remote_protocol="memory")
    assert {name: files.cat(name) for name in PAYLOADS} == PAYLOADS


def test_blobpack_reads_by_references_of_fsspec(tar, tmp_path):
    """References that fsspec's file system of tars makes, in the version 1 of kerchunk."""
    with fsspec.open(os.fspath(tar)) as file:
        inside = fsspec.filesystem("tar", fo=file)
        refs = {}
        for name in PAYLOADS:
            _, start, *_ = inside.index[name]
            refs[name] = [os.fspath(tar), start, inside.info(name)["size"]]
    (tmp_path / "refs.json").write_text(json.dumps({"version": 1, "refs": refs}))
    assert payloads_by(tmp_path / "refs.json", tar) == PAYLOADS
