"""Shards packed to S3: those of a local pack, byte for byte, and after a failure none of them."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from test_cli import COMMAND

import blobpack
from blobpack import (
    BlobChangedError,
    BlobNotFoundError,
    DuplicateNameError,
    SourceError,
    StorageError,
)
from blobpack.stores.s3.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3server import S3Server

MB = 1_000_000
SHARD_BYTES = 3 * MB
COUNT = 12


@pytest.fixture
def folder(tmp_path: Path, small_images: dict[str, bytes]) -> Path:
    """Images of a megabyte and some small ones, and a file that is none."""
    rng = random.Random(5)
    folder = tmp_path / "imgs"
    for name, payload in small_images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(payload)
    for i in range(COUNT):
        image = small_images["cats/0001.jpg"] + rng.randbytes(MB + i)
        (folder / f"large-{i:02d}.jpg").write_bytes(image)
    (folder / "dogs" / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def payloads(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jpg"))}


def blobs_of(s3: S3Server, bucket: str) -> dict[str, bytes]:
    """The objects below train/, but for the collection, whose ETags are not a local one's."""
    return {
        key.removeprefix("train/"): s3.stored(bucket, key)
        for key in s3.keys(bucket)
        if not key.endswith("collection.idx")
    }


class TestWhatIsWritten:
    @pytest.mark.parametrize("level", [None, 1])
    @pytest.mark.parametrize("shard_bytes", [2000, SHARD_BYTES, 100 * MB])
    def test_the_blobs_of_a_local_pack(self, s3_env, bucket, folder, tmp_path, shard_bytes, level):
        local = blobpack.pack_shards(folder, tmp_path / "out", shard_bytes, level=level)
        far = blobpack.pack_shards(folder, f"s3://{bucket}/train", shard_bytes, level=level)
        assert s3_env.keys(bucket)[-1] == "train/collection.idx"
        assert blobs_of(s3_env, bucket) == {
            path.name: path.read_bytes() for path in (tmp_path / "out").glob("0*")
        }
        assert (far.members, far.blob_bytes, far.shards, far.skipped, far.payload_bytes) == (
            local.members,
            local.blob_bytes,
            local.shards,
            local.skipped,
            local.payload_bytes,
        )
        assert far.index == local.index
        assert not s3_env.uploads(bucket)
        with blobpack.open_collection(f"s3://{bucket}/train/") as collection:
            names = list(collection.index.names)
            assert len(names) == far.members == COUNT + 6
            assert list(collection.read_many(names)) == [
                (folder / name).read_bytes() for name in names
            ]

    def test_payloads_and_objects_give_the_same(self, s3_env, bucket, folder, payloads, tmp_path):
        sources = s3_env.new_bucket()
        for name, payload in payloads.items():
            s3_env.put(sources, f"imgs/{name}", payload)
        blobpack.pack_shards(payloads.items(), tmp_path / "out", SHARD_BYTES)
        expected = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("0*")}
        for source in (payloads.items(), f"s3://{sources}/imgs/"):
            bucket = s3_env.new_bucket()
            blobpack.pack_shards(source, f"s3://{bucket}/train/", SHARD_BYTES)
            assert blobs_of(s3_env, bucket) == expected

    def test_what_is_filtered_out_is_not_fetched(self, s3_env, bucket, payloads, tmp_path, sent):
        for name, payload in payloads.items():
            s3_env.put(bucket, f"imgs/{name}", payload)
        report = blobpack.pack_shards(
            f"s3://{bucket}/imgs", tmp_path / "out", SHARD_BYTES, globs="*-03.jpg"
        )
        assert (report.members, report.skipped) == (1, {"filtered out": COUNT - 1})
        assert [operation for operation, _ in sent].count("GetObject") == 1

    def test_a_last_blob_without_an_image_is_not_there(self, s3_env, bucket, payloads):
        source = [*payloads.items(), ("zz.txt", bytes(2 * SHARD_BYTES)), ("zzz.txt", b"")]
        report = blobpack.pack_shards(source, f"s3://{bucket}/train", SHARD_BYTES)
        assert report.members == COUNT
        assert len(blobs_of(s3_env, bucket)) == report.shards
        assert not s3_env.uploads(bucket)

    def test_memory_does_not_grow_with_the_number_of_blobs(self, s3_env, bucket):
        code = (
            "import resource, sys, blobpack\n"
            "def payloads():\n"
            "    for i in range(int(sys.argv[2])):\n"
            "        yield f'{i:04}', bytes(1_000_000)\n"
            "blobpack.pack_shards(payloads(), sys.argv[1], 20_000_000, all_files=True)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        )
        kilobytes = [
            int(
                subprocess.run(
                    [sys.executable, "-c", code, f"s3://{bucket}/{count}", str(count)],
                    env=s3_env.env(),
                    capture_output=True,
                    check=True,
                ).stdout
            )
            for count in (40, 160)
        ]
        assert kilobytes[1] - kilobytes[0] < 40_000


class TestFailures:
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_whole_blobs_are_removed_too(self, s3_env, bucket, payloads, error):
        def broken() -> Iterator[tuple[str, bytes]]:
            yield from payloads.items()
            assert "train/00002.tar" in s3_env.keys(bucket)
            raise error

        s3_env.put(bucket, "training/x", b"another's")
        with pytest.raises(error):
            blobpack.pack_shards(broken(), f"s3://{bucket}/train/", SHARD_BYTES)
        assert s3_env.keys(bucket) == ["training/x"]
        assert not s3_env.uploads(bucket)

    def test_while_parts_of_a_blob_are_under_way(self, s3_env, bucket, payloads):
        def broken() -> Iterator[tuple[str, bytes]]:
            for i in range(3):
                for name, payload in payloads.items():
                    yield f"{i}/{name}", payload
            assert s3_env.uploads(bucket) == ["train/00001.tar"]
            raise RuntimeError

        with pytest.raises(RuntimeError):
            blobpack.pack_shards(broken(), f"s3://{bucket}/train", 20 * MB)
        assert not s3_env.keys(bucket)
        assert not s3_env.uploads(bucket)

    def test_files_that_can_t_be_read(self, s3_env, bucket, folder):
        (folder / "large-11.jpg").unlink()
        (folder / "large-11.jpg").symlink_to("nowhere")
        with pytest.raises(SourceError, match="large-11"):
            blobpack.pack_shards(folder, f"s3://{bucket}/train", SHARD_BYTES, follow_symlinks=True)
        assert not s3_env.keys(bucket)
        assert not s3_env.uploads(bucket)

    def test_a_collection_that_can_t_be_made(self, s3_env, bucket, payloads):
        twice = [*payloads.items(), next(iter(payloads.items()))]
        with pytest.raises(DuplicateNameError, match=r"in 00000\.tar and in 0000\d\.tar"):
            blobpack.pack_shards(twice, f"s3://{bucket}/train", SHARD_BYTES)
        assert not s3_env.keys(bucket)

    def test_what_can_t_be_removed_is_said(self, s3_env, bucket, payloads, monkeypatch):
        ask = Bucket.ask

        def refused(bucket: Bucket, operation: str, **arguments: Any) -> Any:
            """A fault: S3 lets nobody delete."""
            if operation == "delete_object":
                raise StorageError("not allowed")
            return ask(bucket, operation, **arguments)

        def broken() -> Iterator[tuple[str, bytes]]:
            yield from payloads.items()
            raise RuntimeError

        monkeypatch.setattr(Bucket, "ask", refused)
        with pytest.raises(RuntimeError) as caught:
            blobpack.pack_shards(broken(), f"s3://{bucket}/train", 5 * MB)
        assert caught.value.__notes__ == [
            f"not allowed; 3 objects may be left below s3://{bucket}/train/"
        ]

    def test_a_prefix_that_is_not_empty_is_left_alone(self, s3_env, bucket, folder):
        s3_env.put(bucket, "train/00000.tar", b"precious")
        with pytest.raises(StorageError, match=r"is not empty, there is train/00000\.tar"):
            blobpack.pack_shards(folder, f"s3://{bucket}/train", SHARD_BYTES)
        assert s3_env.stored(bucket, "train/00000.tar") == b"precious"
        assert s3_env.keys(bucket) == ["train/00000.tar"]

    @pytest.mark.parametrize("shard_bytes", [SHARD_BYTES, 20 * MB])  # one PUT each, and in parts
    def test_of_two_at_once_one_wins(self, s3_env, bucket, payloads, shard_bytes):
        url = f"s3://{bucket}/train"
        won: list[blobpack.PackReport] = []

        def later() -> Iterator[tuple[str, bytes]]:
            """Both have found the prefix empty when the other one is done."""
            for number, (name, payload) in enumerate(payloads.items()):
                if number == 2:
                    won.append(blobpack.pack_shards(payloads.items(), url, shard_bytes))
                yield f"later/{name}", payload

        with pytest.raises(
            BlobChangedError, match=r"00000\.tar exists already; it was not replaced"
        ):
            blobpack.pack_shards(later(), url, shard_bytes)
        assert not s3_env.uploads(bucket)
        with blobpack.open_collection(f"{url}/") as collection:
            assert sorted(collection.index.names) == sorted(payloads)
            assert collection.read("large-03.jpg") == payloads["large-03.jpg"]
        assert len(s3_env.keys(bucket)) == won[0].shards + 1

    def test_what_is_no_prefix_is_refused(self, s3_env, bucket, folder):
        for url in (f"s3://{bucket}", f"s3://{bucket}/", "gopher://x/y"):
            with pytest.raises(ValueError, match="://"):
                blobpack.pack_shards(folder, url, SHARD_BYTES)
        with pytest.raises(ValueError, match="folder must be a local path or s3:"):
            blobpack.pack_shards(folder, "https://example.org/train/", SHARD_BYTES)
        with pytest.raises(StorageError, match="no such bucket"):
            blobpack.pack_shards(folder, "s3://no-such-bucket-here/x/", SHARD_BYTES)

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
    def test_ctrl_c_leaves_nothing_and_a_kill_no_collection(self, s3_env, bucket, folder, how):
        code = (
            "import signal, sys, time, blobpack\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's job may ignore it
            "def payloads():\n"
            "    head = open(sys.argv[2], 'rb').read()\n"
            "    for i in range(60):\n"
            "        if i == 50: print('up', flush=True); time.sleep(60)\n"
            "        yield f'{i}.jpg', head\n"
            "blobpack.pack_shards(payloads(), sys.argv[1], 20_000_000)\n"
        )
        url = f"s3://{bucket}/train"
        with subprocess.Popen(
            [sys.executable, "-c", code, url, folder / "large-00.jpg"],
            env=s3_env.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            assert child.stdout.readline() == b"up\n"
            assert s3_env.keys(bucket) == ["train/00000.tar", "train/00001.tar"]
            child.send_signal(how)
            said = child.communicate()[1]
        if how == signal.SIGINT:
            assert b"KeyboardInterrupt" in said
            assert not s3_env.keys(bucket)
            assert not s3_env.uploads(bucket)
            return
        with pytest.raises(BlobNotFoundError, match="no collection"):
            blobpack.open_collection(url)
        with pytest.raises(StorageError, match="not empty"):
            blobpack.pack_shards(folder, url, SHARD_BYTES)


def test_the_command_does_it(s3_env: S3Server, bucket: str, folder: Path) -> None:
    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [COMMAND, *arguments], env=s3_env.env(), capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done

    url = f"s3://{bucket}/train/"
    done = run("pack", str(folder), url, "--shard-size", "3M", "--level", "1", "--json")
    assert json.loads(done.stdout)["shards"] == len(blobs_of(s3_env, bucket)) > 3
    assert set(s3_env.keys(bucket)) > {"train/00000.tar.zst", "train/collection.idx"}
    assert len(run("ls", url).stdout.splitlines()) == COUNT + 6
    assert "is not empty" in run("pack", str(folder), url, "--shard-size", "3M", code=1).stderr
    assert "is a prefix" in run("pack", str(folder), url, code=2).stderr
    resumed = run("pack", str(folder), url, "--shard-size", "3M", "--resume", code=2)
    assert "can't be combined" in resumed.stderr
