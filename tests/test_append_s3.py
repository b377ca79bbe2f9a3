"""Members appended to a blob in S3: not downloaded, whole or not at all, and of two writers one at most wins."""

from __future__ import annotations

import io
import random
import shlex
import signal
import subprocess
import tarfile
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from test_cli import COMMAND
from test_pack_s3 import end_midway

import blobpack
from blobpack.errors import BlobChangedError, DuplicateNameError
from blobpack.indexfile.identity import identify
from blobpack.stores.memory import MemoryStore
from blobpack.stores.s3.store import S3Store
from blobpack.stores.s3.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Iterator


SMALL, LARGE = 3, 14  # payloads of a megabyte


def old_members(head: bytes, count: int) -> dict[str, bytes]:
    rng = random.Random(count)
    return {f"old/{i:03d}.jpg": head + rng.randbytes(1_000_000 + i) for i in range(count)}


@pytest.fixture
def head(small_images: dict[str, bytes]) -> bytes:
    return small_images["cats/0001.jpg"]


@pytest.fixture
def new_members(small_images: dict[str, bytes]) -> dict[str, bytes]:
    return {f"new/{name}": payload for name, payload in sorted(small_images.items())}


def payloads_of(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


@pytest.mark.parametrize("count", [0, SMALL, LARGE])
@pytest.mark.parametrize("place", ["embed", "sidecar", "none"])
@pytest.mark.filterwarnings("ignore::blobpack.errors.MissingIndexWarning")
def test_old_and_new_members_are_there(s3_env, bucket, tmp_path, head, new_members, count, place):
    url, local = f"s3://{bucket}/out.tar", tmp_path / "out.tar"
    old = old_members(head, count)
    for blob in (url, local):
        blobpack.pack(old.items(), blob, index=place, allow_empty=True)
        report = blobpack.append(blob, new_members.items())
        assert (report.appended, report.members) == (6, count + 6)
        assert report.index_place == place
    data = s3_env.stored(bucket, "out.tar")
    assert payloads_of(data) == old | new_members
    end = report.index.report.bytes_scanned + 1024
    # the archive is the one that a local append makes
    assert data[:end] == local.read_bytes()[:end]
    assert not s3_env.uploads(bucket)
    with blobpack.open_blob(url) as far, blobpack.open_blob(local) as near:
        assert far.index == near.index
        assert all(far.read(name) == payload for name, payload in (old | new_members).items())
        if place == "embed":
            assert far.index.identity == identify(MemoryStore(data), end)
        elif place == "sidecar":
            assert far.index.identity.version == S3Store(url).version


def test_the_old_members_are_not_downloaded(s3_env, bucket, head, new_members):
    url = f"s3://{bucket}/out.tar"
    blobpack.pack(old_members(head, LARGE).items(), url)
    before = blobpack.stats()
    blobpack.append(url, new_members.items())
    after = blobpack.stats()
    assert 0 < after.bytes_fetched - before.bytes_fetched < 300_000
    assert 0 < after.bytes_sent - before.bytes_sent < 300_000
    assert after.puts - before.puts >= 4  # begin, copy, a part, complete
    assert len(payloads_of(s3_env.stored(bucket, "out.tar"))) == LARGE + 6


@pytest.mark.parametrize("count", [SMALL, LARGE])
def test_a_blob_that_changes_meanwhile_stays_the_other_s(s3_env, bucket, head, new_members, count):
    url = f"s3://{bucket}/out.tar"
    blobpack.pack(old_members(head, count).items(), url)

    def payloads() -> Iterator[tuple[str, bytes]]:
        yield from new_members.items()
        s3_env.put(bucket, "out.tar", b"another's")

    with pytest.raises(BlobChangedError, match=r"was changed meanwhile|no longer the one"):
        blobpack.append(url, payloads())
    assert s3_env.stored(bucket, "out.tar") == b"another's"
    assert not s3_env.uploads(bucket)


def test_a_blob_replaced_right_after_has_no_claim_to_the_index(
    s3_env, bucket, head, new_members, monkeypatch
):
    """The append removes its index file, which says which version it is of: the one that the append has made."""
    url = f"s3://{bucket}/out.tar"
    blobpack.pack(old_members(head, LARGE).items(), url, index="sidecar")
    finish = Upload.finish

    def finish_and_replace(upload: Upload) -> None:
        finish(upload)
        size = len(s3_env.stored(bucket, "out.tar"))
        s3_env.put(bucket, "out.tar", bytes(size))

    monkeypatch.setattr(Upload, "finish", finish_and_replace)
    blobpack.append(url, new_members.items())
    assert s3_env.keys(bucket) == ["out.tar"]


@pytest.mark.parametrize("count", [SMALL, LARGE])
def test_of_two_appends_at_once_one_wins(s3_env, bucket, head, count):
    """Both have opened the blob before either begins, and begin before either ends, if the loser gets so far."""
    url = f"s3://{bucket}/out.tar"
    base = old_members(head, count)
    blobpack.pack(base.items(), url)
    expected = dict(base)
    for turn in range(6):
        begun = threading.Barrier(2)
        won: list[str] = []
        failed: list[Exception] = []

        def payloads(name: str, begun: threading.Barrier = begun) -> Iterator[tuple[str, bytes]]:
            begun.wait(120)
            yield name, head
            with suppress(threading.BrokenBarrierError):
                begun.wait(0.5)
            yield f"also {name}", head

        def work(name: str, won: list[str] = won, failed: list[Exception] = failed) -> None:
            try:
                blobpack.append(url, payloads(name))
                won.append(name)
            except BlobChangedError as exc:
                failed.append(exc)

        threads = [threading.Thread(target=work, args=(f"{turn}-{i}.jpg",)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(failed)) == (1, 1), failed
        expected |= {won[0]: head, f"also {won[0]}": head}
        assert payloads_of(s3_env.stored(bucket, "out.tar")) == expected
        assert not s3_env.uploads(bucket)
    blobpack.append(url, [("at last.jpg", head)])
    assert payloads_of(s3_env.stored(bucket, "out.tar")) == expected | {"at last.jpg": head}


def test_nothing_new_and_failures_leave_the_blob_alone(s3_env, bucket, head):
    url = f"s3://{bucket}/out.tar"
    blobpack.pack(old_members(head, LARGE).items(), url)
    version = S3Store(url).version
    report = blobpack.append(url, [("note.txt", b"no image")])
    assert (report.appended, report.skipped) == (0, {"not an image": 1})
    with pytest.raises(DuplicateNameError, match=r"there is a member 'old/001\.jpg' already"):
        blobpack.append(url, [("new.jpg", head), ("old/001.jpg", head)])

    def broken() -> Iterator[tuple[str, bytes]]:
        yield "new.jpg", head
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blobpack.append(url, broken())
    assert S3Store(url).version == version
    assert not s3_env.uploads(bucket)


def test_the_command_appends_a_folder(s3_env, bucket, tmp_path, head, new_members):
    url = f"s3://{bucket}/out.tar"
    blobpack.pack(old_members(head, LARGE).items(), url)
    for name, payload in new_members.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(payload)
    done = subprocess.run(
        [COMMAND, "append", url, tmp_path],
        env=s3_env.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("appended 6 members")
    assert payloads_of(s3_env.stored(bucket, "out.tar")) == old_members(head, LARGE) | new_members


def test_what_a_kill_left_is_told_and_can_be_thrown_away(
    s3_env, bucket, tmp_path, head, new_members
):
    url = f"s3://{bucket}/my out.tar"
    blobpack.pack(old_members(head, LARGE).items(), url)
    (tmp_path / "new.jpg").write_bytes(head)
    status, _ = end_midway(s3_env, ["append", url, tmp_path / "new.jpg"], signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert s3_env.uploads(bucket) == ["my out.tar"]
    with pytest.raises(BlobChangedError, match="if that one was interrupted") as caught:
        blobpack.append(url, new_members.items())
    _, command, _ = str(caught.value).split("`")
    name, *arguments = shlex.split(command)
    assert name == COMMAND.name
    done = subprocess.run(
        [COMMAND, *arguments], env=s3_env.env(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert url in done.stdout
    assert not s3_env.uploads(bucket)
    assert blobpack.append(url, new_members.items()).members == LARGE + 6
