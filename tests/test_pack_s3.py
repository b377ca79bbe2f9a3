"""Blobs packed to S3, and from it: the bytes that a local pack gives, and nothing left dangling."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from test_cli import COMMAND

import blobpack
from blobpack.cli.main import main
from blobpack.errors import SourceError, StorageError
from blobpack.stores.s3.store import S3Store

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

PART_BYTES = 8 << 20


@pytest.fixture
def folder(tmp_path: Path, small_images: dict[str, bytes]) -> Path:
    """Images, some large, and files that are none: 25 MB in all."""
    rng = random.Random(4)
    folder = tmp_path / "imgs"
    for name, payload in small_images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(payload)
    for i in range(12):
        (folder / f"large-{i:02d}.jpg").write_bytes(
            small_images["cats/0001.jpg"] + rng.randbytes(2_000_000 + i)
        )
    for i in range(300):
        (folder / "cats" / f"many-{i:04d}.jpg").write_bytes(
            small_images["cats/0001.jpg"] + rng.randbytes(i)
        )
    (folder / "notes.txt").write_text("no image")
    (folder / ("n" * 120 + ".png")).write_bytes(small_images["birds/grey.png"])
    return folder


# a command, held when its members are written, until a line comes
MIDWAY = """
import signal, sys
from blobpack.cli.main import main
from blobpack.editing import append_object
from blobpack.writing import new_blob
{before}
def held(work):
    def wait(*arguments):
        print("up", flush=True)
        sys.stdin.readline()
        return work(*arguments)
    return wait
new_blob.end_archive = held(new_blob.end_archive)
append_object.write_behind = held(append_object.write_behind)
main(sys.argv[1:])
"""


def end_midway(
    s3: S3Server, command: list[str | Path], number: signal.Signals, *, before: str = ""
) -> tuple[int, bytes]:
    """Send a signal to a command that has begun to write; its exit status, and its complaints."""
    with subprocess.Popen(
        [sys.executable, "-c", MIDWAY.format(before=before), *command],
        env=s3.env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout.readline() == b"up\n"
        child.send_signal(number)
        _, said = child.communicate(b"\n")
    return child.returncode, said


class TestToS3:
    @pytest.mark.parametrize(
        "options", [{}, {"facts": False}, {"all_files": True, "keep_mtime": True}]
    )
    @pytest.mark.parametrize("slice_bytes", [1, 100_000, 32 << 20])
    def test_the_same_bytes_as_packed_locally(
        self, s3_env, bucket, folder, tmp_path, monkeypatch, slice_bytes, options
    ):
        monkeypatch.setattr("blobpack.packing.stream.SLICE_BYTES", slice_bytes)
        url = f"s3://{bucket}/out.tar"
        local = blobpack.pack(folder, tmp_path / "out.tar", **options)
        far = blobpack.pack(folder, url, **options)
        assert s3_env.stored(bucket, "out.tar") == (tmp_path / "out.tar").read_bytes()
        assert (far.members, far.blob_bytes, far.skipped) == (
            local.members,
            local.blob_bytes,
            local.skipped,
        )
        assert far.index == local.index
        assert not s3_env.uploads(bucket)
        with blobpack.open_blob(url) as blob:
            assert blob.read("large-03.jpg") == (folder / "large-03.jpg").read_bytes()

    def test_payloads_and_files_go_there_too(self, s3_env, bucket, folder, small_images, tmp_path):
        files = [folder / "large-00.jpg", folder / "large-01.jpg"]
        for source in (list(small_images.items()), files):
            blobpack.pack(source, tmp_path / "out.tar")
            blobpack.pack(source, f"s3://{bucket}/out.tar")
            assert s3_env.stored(bucket, "out.tar") == (tmp_path / "out.tar").read_bytes()

    def test_an_index_beside_the_blob_or_none(self, s3_env, bucket, folder, recwarn):
        url = f"s3://{bucket}/out.tar"
        report = blobpack.pack(folder, url, index="sidecar")
        assert s3_env.keys(bucket) == ["out.tar", "out.tar.idx"]
        with blobpack.open_blob(url) as blob:
            assert blob.index == report.index
        assert not recwarn
        blobpack.pack(folder, f"s3://{bucket}/plain.tar", index="none")
        assert s3_env.stored(bucket, "plain.tar") == s3_env.stored(bucket, "out.tar")

    def test_a_dry_run_writes_nothing(self, s3_env, bucket, folder, tmp_path):
        dry = blobpack.pack(folder, f"s3://{bucket}/out.tar", dry_run=True)
        assert not s3_env.keys(bucket)
        assert dry.blob_bytes == blobpack.pack(folder, tmp_path / "out.tar").blob_bytes

    def test_unreadable_files_are_all_named_and_nothing_is_left(
        self, s3_env, bucket, folder, monkeypatch
    ):
        monkeypatch.setattr("blobpack.packing.stream.SLICE_BYTES", 1)
        for name in ("cats/many-0001.jpg", "large-11.jpg"):
            (folder / name).unlink()
            (folder / name).symlink_to("nowhere")
        with pytest.raises(SourceError) as caught:
            blobpack.pack(folder, f"s3://{bucket}/out.tar", follow_symlinks=True)
        assert [os.path.basename(path) for path in caught.value.paths] == [
            "many-0001.jpg",
            "large-11.jpg",
        ]
        assert not s3_env.uploads(bucket)
        assert not s3_env.keys(bucket)

    def test_what_is_no_tar_is_not_replaced(self, s3_env, bucket, folder):
        url = s3_env.put(bucket, "out.tar", b"precious" * 100)
        with pytest.raises(StorageError, match="exists and is no tar"):
            blobpack.pack(folder, url)
        assert s3_env.stored(bucket, "out.tar") == b"precious" * 100

    def test_a_blob_is_replaced_but_not_by_nothing(self, s3_env, bucket, folder, tmp_path):
        url = f"s3://{bucket}/out.tar"
        blobpack.pack(folder, url)
        version = S3Store(url).version
        (tmp_path / "empty").mkdir()
        with pytest.raises(SourceError, match="nothing to pack"):
            blobpack.pack(tmp_path / "empty", url)
        assert S3Store(url).version == version
        blobpack.pack([folder / "large-00.jpg"], url)
        with blobpack.open_blob(url) as blob:
            assert len(blob.index) == 1

    def test_what_can_t_be_is_said(self, bucket, folder, tmp_path):
        with pytest.raises(ValueError, match="is a prefix: add the name of an object"):
            blobpack.pack(folder, f"s3://{bucket}/shards/")
        with pytest.raises(ValueError, match="resume is for a target in S3"):
            blobpack.pack(folder, tmp_path / "out.tar", resume=True)

    def test_ctrl_c_leaves_nothing(self, s3_env, bucket, folder):
        (folder / "zz.jpg").unlink(missing_ok=True)
        code = (
            "import os, sys, time, signal, blobpack\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's job may ignore it
            "def payloads():\n"
            "    head = open(sys.argv[2], 'rb').read()\n"
            "    for i in range(100):\n"
            "        if i == 20: print('up', flush=True); time.sleep(30)\n"
            "        yield f'{i}.jpg', head\n"
            "blobpack.pack(payloads(), sys.argv[1])\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, f"s3://{bucket}/out.tar", folder / "large-00.jpg"],
            env=s3_env.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            assert child.stdout.readline() == b"up\n"
            assert s3_env.uploads(bucket) == ["out.tar"]
            child.send_signal(signal.SIGINT)
            assert b"KeyboardInterrupt" in child.communicate()[1]
        assert not s3_env.uploads(bucket)
        assert not s3_env.keys(bucket)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_command_that_is_ended_leaves_nothing(self, s3_env, bucket, folder, tmp_path, number):
        old, url = f"s3://{bucket}/old.tar", f"s3://{bucket}/new.tar"
        blobpack.pack([folder / "large-00.jpg"], old)
        version = S3Store(old).version
        for command in (
            ["pack", folder, url],
            ["append", old, folder, "--duplicates", "last"],
            ["pack", folder, tmp_path / "out.tar"],
        ):
            taken = f"signal.signal({int(number)}, signal.SIG_DFL)"  # the tests may run under nohup
            status, said = end_midway(s3_env, command, number, before=taken)
            assert (status, said) == (128 + number, b"")
            assert not s3_env.uploads(bucket)
        assert s3_env.keys(bucket) == ["old.tar"]
        assert S3Store(old).version == version
        assert os.listdir(tmp_path) == ["imgs"]

    def test_a_command_says_what_it_leaves_to_resume(self, s3_env, bucket, folder, monkeypatch):
        command = ["pack", "--resume", "--follow-symlinks", str(folder), f"s3://{bucket}/out.tar"]
        left = f"the parts of {command[-1]} that were sent are kept: --resume continues with them"
        ctrl_c = "signal.signal(signal.SIGINT, signal.default_int_handler)"
        for number in (signal.SIGTERM, signal.SIGINT):
            status, said = end_midway(s3_env, command, number, before=ctrl_c)
            assert status == 128 + number
            assert left in said.decode().splitlines()
            assert s3_env.uploads(bucket) == ["out.tar"]
        monkeypatch.setattr("blobpack.packing.stream.SLICE_BYTES", 1 << 20)
        (folder / "zzz.jpg").symlink_to("nowhere")
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 1
        assert left in done.output.splitlines()

    def test_a_command_that_outlives_its_terminal_goes_on(self, s3_env, bucket, folder):
        ignore = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"  # as nohup does
        command = ["pack", folder, f"s3://{bucket}/out.tar"]
        assert end_midway(s3_env, command, signal.SIGHUP, before=ignore) == (0, b"")
        assert s3_env.keys(bucket) == ["out.tar"]

    def test_an_interrupted_upload_is_resumed(
        self, s3_env, bucket, folder, tmp_path, sent, monkeypatch
    ):
        url = f"s3://{bucket}/out.tar"
        blobpack.pack(folder, tmp_path / "out.tar")
        (folder / "zzz.jpg").symlink_to("nowhere")
        with pytest.raises(SourceError) as caught:
            blobpack.pack(folder, url, follow_symlinks=True, resume=True)
        assert not hasattr(caught.value, "__notes__")  # one slice: nothing went up
        monkeypatch.setattr("blobpack.packing.stream.SLICE_BYTES", 1 << 20)
        with pytest.raises(SourceError) as caught:
            blobpack.pack(folder, url, follow_symlinks=True, resume=True)
        assert "resume=True" in caught.value.__notes__[0]
        assert s3_env.uploads(bucket) == ["out.tar"]
        (folder / "zzz.jpg").unlink()
        del sent[:]
        blobpack.pack(folder, url, resume=True)
        # the last one of three
        assert [operation for operation, _ in sent].count("UploadPart") == 1
        assert s3_env.stored(bucket, "out.tar") == (tmp_path / "out.tar").read_bytes()
        assert not s3_env.uploads(bucket)

    def test_requests_are_counted_as_s3_bills_them(self, bucket, folder, sent):
        before = blobpack.stats()
        report = blobpack.pack(folder, f"s3://{bucket}/out.tar")
        after = blobpack.stats()
        asked = [operation for operation, _ in sent]
        reads = sum(operation.startswith(("Get", "Head")) for operation in asked)
        assert asked.count("UploadPart") > 2
        assert after.requests - before.requests == len(asked)
        assert after.puts - before.puts == len(asked) - reads
        assert after.bytes_sent - before.bytes_sent == report.blob_bytes
        assert after.cost_usd(0, 1) - before.cost_usd(0, 1) == pytest.approx(
            (len(asked) - reads) / 1000
        )

    def test_the_command_does_it(self, s3_env, bucket, folder, tmp_path):
        url = f"s3://{bucket}/out.tar"
        done = subprocess.run(
            [COMMAND, "pack", folder, url],
            env=s3_env.env(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("packed 319 members")
        blobpack.pack(folder, tmp_path / "out.tar")
        assert s3_env.stored(bucket, "out.tar") == (tmp_path / "out.tar").read_bytes()


def put_folder(s3: S3Server, bucket: str, folder: Path, prefix: str = "data/imgs/") -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.put(bucket, prefix + path.relative_to(folder).as_posix(), path.read_bytes())
    return f"s3://{bucket}/{prefix}".rstrip("/")


@pytest.fixture
def prefix(s3_env: S3Server, bucket: str, folder: Path) -> str:
    """The same images below a prefix in S3, and something beside it."""
    s3_env.put(bucket, "data/imgs.old/x.jpg", b"another folder")
    s3_env.put(bucket, "data/imgs/", b"")
    s3_env.put(bucket, "data/imgs/.hidden/x.jpg", b"hidden")
    return put_folder(s3_env, bucket, folder)


class TestFromS3:
    @pytest.mark.parametrize("slash", ["", "/"])
    @pytest.mark.parametrize("window", [1, 64 << 20])
    def test_the_same_bytes_as_of_the_folder(
        self, prefix, folder, tmp_path, monkeypatch, window, slash
    ):
        monkeypatch.setattr("blobpack.packing.objects.PAYLOADS_AHEAD_BYTES", window)
        local = blobpack.pack(folder, tmp_path / "local.tar")
        far = blobpack.pack(prefix + slash, tmp_path / "far.tar")
        assert (tmp_path / "far.tar").read_bytes() == (tmp_path / "local.tar").read_bytes()
        assert far.skipped == {
            "an object that stands for a folder": 1,
            "hidden": 1,
            "not an image": 1,
        }
        assert far.members == local.members

    def test_from_s3_to_s3(self, s3_env, bucket, prefix, folder, tmp_path):
        blobpack.pack(folder, tmp_path / "local.tar")
        blobpack.pack(prefix, f"s3://{bucket}/out.tar")
        assert s3_env.stored(bucket, "out.tar") == (tmp_path / "local.tar").read_bytes()
        assert not s3_env.uploads(bucket)

    def test_a_blob_is_not_packed_into_itself(self, s3_env, bucket, prefix):
        url = f"{prefix}/out.tar"
        first = blobpack.pack(prefix, url, all_files=True)
        again = blobpack.pack(prefix, url, all_files=True)
        assert again.skipped["the blob itself"] == 1
        assert again.index == first.index

    def test_a_whole_bucket(self, s3_env, folder, tmp_path):
        bucket = s3_env.new_bucket()
        put_folder(s3_env, bucket, folder, "")
        blobpack.pack(folder, tmp_path / "local.tar")
        blobpack.pack(f"s3://{bucket}", tmp_path / "far.tar")
        assert (tmp_path / "far.tar").read_bytes() == (tmp_path / "local.tar").read_bytes()

    def test_what_is_filtered_out_is_not_fetched(self, prefix, tmp_path):
        before = blobpack.stats().bytes_fetched
        report = blobpack.pack(prefix, tmp_path / "out.tar", globs=["cats/*"], exclude=["*many*"])
        assert sorted(report.index.names) == ["cats/0001.jpg", "cats/0002.jpg", "cats/turned.jpg"]
        assert report.skipped["filtered out"] == 317
        assert blobpack.stats().bytes_fetched - before == report.payload_bytes

    def test_requests_are_those_that_the_server_saw(self, faults, prefix, tmp_path):
        faults.requests.clear()
        before = blobpack.stats()
        report = blobpack.pack(prefix, tmp_path / "out.tar", globs=["cats/*"])
        after = blobpack.stats()
        lists = sum(request.range is None for request in faults.requests)
        assert after.requests - before.requests == len(faults.requests) == lists + report.members
        assert after.puts - before.puts == lists > 1

    def test_of_something_large_that_is_no_image_only_the_start_is_fetched(
        self, s3_env, bucket, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("blobpack.packing.objects.LARGE_OBJECT_BYTES", 10_000)
        s3_env.put(bucket, "a/video.mp4", bytes(5_000_000))
        before = blobpack.stats().bytes_fetched
        report = blobpack.pack(f"s3://{bucket}/a", tmp_path / "out.tar", allow_empty=True)
        assert report.skipped == {"not an image": 1}
        assert blobpack.stats().bytes_fetched - before == 4096

    @pytest.mark.parametrize("change", ["put", "delete"])
    def test_an_object_that_changes_meanwhile_is_an_error(
        self, s3_env, bucket, prefix, tmp_path, monkeypatch, change
    ):
        from blobpack.stores.s3 import listing

        list_objects = listing.list_objects

        def and_change(*arguments: Any, **options: Any) -> Any:
            listed = list_objects(*arguments, **options)
            if change == "put":
                s3_env.put(bucket, "data/imgs/cats/0002.jpg", b"new")
            else:
                s3_env.delete(bucket, "data/imgs/cats/0002.jpg")
            return listed

        monkeypatch.setattr(listing, "list_objects", and_change)
        with pytest.raises(SourceError, match=r"cats/0002.jpg (changed|is gone)") as caught:
            blobpack.pack(prefix, f"s3://{bucket}/out.tar")
        assert caught.value.paths == (f"{prefix}/cats/0002.jpg",)
        assert "out.tar" not in s3_env.keys(bucket)
        assert not s3_env.uploads(bucket)

    def test_nothing_there_is_an_error(self, s3_env, bucket, tmp_path):
        with pytest.raises(SourceError, match="there is no such object"):
            blobpack.pack(f"s3://{bucket}/none", tmp_path / "out.tar")
        with pytest.raises(SourceError, match="no such bucket"):
            blobpack.pack("s3://no-such-bucket-here/x", tmp_path / "out.tar")

    def test_append_takes_objects_too(self, prefix, folder, tmp_path):
        blob = tmp_path / "out.tar"
        blobpack.pack([folder / "large-00.jpg"], blob)
        report = blobpack.append(blob, prefix, globs=["cats/*"])
        assert report.appended == 303
        assert report.skipped["filtered out"] == 17
        with blobpack.open_blob(blob) as opened:
            assert opened.read("cats/0001.jpg") == (folder / "cats/0001.jpg").read_bytes()

    def test_the_command_does_it(self, s3_env, bucket, prefix, folder, tmp_path):
        def run(*arguments: object) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [COMMAND, "pack", *map(str, arguments)],
                env=s3_env.env(),
                capture_output=True,
                text=True,
                check=False,
            )

        assert run(prefix, tmp_path / "far.tar", "--filter", "*.jpg").returncode == 0
        blobpack.pack(folder, tmp_path / "local.tar", globs=["*.jpg"])
        assert (tmp_path / "far.tar").read_bytes() == (tmp_path / "local.tar").read_bytes()
        assert run(prefix, folder, tmp_path / "x.tar").returncode == 2
        assert run(prefix, "s3://bucket-only").returncode == 2
        assert run(folder, tmp_path / "x.tar", "--resume").returncode == 2


class TestListing:
    @pytest.mark.parametrize(
        "found",
        [
            [f"{i:05d}" for i in range(1050)],  # more than a page, no folder
            [f"d{i:04d}/x" for i in range(1010)],  # more folders than a page
            [f"one/only/{c}/{i}" for c, n in (("a", 1002), ("b", 3)) for i in range(n)]
            + ["one/y", "one/only/é"],
            [],
        ],
        ids=["flat", "many folders", "few folders", "none"],
    )
    def test_all_keys_come_in_byte_order(self, s3_env, bucket, found):
        from concurrent.futures import ThreadPoolExecutor

        from blobpack.stores.s3.bucket import Bucket
        from blobpack.stores.s3.listing import list_objects

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: s3_env.put(bucket, f"p/{key}", b""), found))
        s3_env.put(bucket, "other", b"")
        listed = [one.key for one in list_objects(Bucket(bucket), "p/")]
        assert listed == sorted((f"p/{key}" for key in found), key=str.encode)
