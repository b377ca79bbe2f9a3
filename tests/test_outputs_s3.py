"""What is written to a local file is also written to S3: the same bytes, whole or not at all."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from tars import Tar

import blobpack
from blobpack.cli.main import main
from blobpack.errors import DuplicateNameError, StorageError, UnsafeNameError
from blobpack.reading import extract_objects
from blobpack.tar.splicing import plan

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
PAYLOADS = {f"{i % 3}/{i:03}.bin": random.Random(i).randbytes(i * 37 % 1700) for i in range(60)}


@pytest.fixture
def blobs(tmp_path: Path) -> list[Path]:
    """Two blobs that share no name."""
    files = list(PAYLOADS.items())
    paths = [tmp_path / "a.tar", tmp_path / "b.tar"]
    for path, part in zip(paths, (files[:30], files[30:]), strict=True):
        blobpack.pack(part, path, all_files=True)
    return paths


@pytest.fixture
def images(tmp_path: Path, small_images: dict[str, bytes]) -> Path:
    """A blob of images, with their media types in its index."""
    blobpack.pack(list(small_images.items()), tmp_path / "images.tar")
    return tmp_path / "images.tar"


def run(*arguments: object) -> str:
    ran = CliRunner().invoke(main, list(map(str, arguments)))
    assert ran.exit_code == 0, ran.output
    return ran.output


def members_at(url: str) -> dict[str, bytes]:
    with blobpack.open_blob(url) as blob:
        names = list(blob.index.names)
        return dict(zip(names, blob.read_many(names), strict=True))


class TestMergeAndSubset:
    @pytest.mark.parametrize("part_bytes", [1, 5000, plan.SPLICE_PART_BYTES])
    def test_a_merged_blob_has_the_bytes_of_a_local_one(
        self, s3_env, bucket, blobs, tmp_path, monkeypatch, part_bytes
    ):
        blobpack.merge(blobs, tmp_path / "o.tar")
        monkeypatch.setattr(plan, "SPLICE_PART_BYTES", part_bytes)
        report = blobpack.merge(blobs, f"s3://{bucket}/o.tar")
        assert s3_env.stored(bucket, "o.tar") == (tmp_path / "o.tar").read_bytes()
        assert report.blob_bytes == (tmp_path / "o.tar").stat().st_size
        assert members_at(f"s3://{bucket}/o.tar") == PAYLOADS

    def test_a_large_blob_is_sent_in_parts(self, s3_env, bucket, tmp_path, sent):
        big = {f"{i}.bin": random.Random(i).randbytes(9 * MIB) for i in range(2)}
        blobpack.pack(list(big.items()), tmp_path / "a.tar", all_files=True)
        blobpack.merge([tmp_path / "a.tar"], f"s3://{bucket}/o.tar")
        assert [name for name, _ in sent].count("UploadPart") == 3
        assert members_at(f"s3://{bucket}/o.tar") == big

    def test_the_index_may_lie_beside_it_or_nowhere(self, s3_env, bucket, blobs):
        blobpack.merge(blobs, f"s3://{bucket}/o.tar", index="sidecar")
        assert sorted(s3_env.keys(bucket)) == ["o.tar", "o.tar.idx"]
        assert members_at(f"s3://{bucket}/o.tar") == PAYLOADS
        # the old index file would be that of another blob
        blobpack.merge(blobs[:1], f"s3://{bucket}/o.tar", index="none")
        assert s3_env.keys(bucket) == ["o.tar"]

    def test_a_subset_of_an_object_is_an_object(self, s3_env, bucket, tmp_path):
        tar = Tar().file("a", b"one").file("b", b"two").link("link", "a")
        url = s3_env.put(bucket, "links.tar", bytes(tar.end().blob))
        index = blobpack.scan(url)
        with blobpack.open_blob(url, index) as blob:
            report = blobpack.subset(blob, f"s3://{bucket}/o.tar", ["link", "b"])
        assert report.new_headers == 1
        assert members_at(f"s3://{bucket}/o.tar") == {"link": b"one", "b": b"two"}

    def test_a_failure_leaves_nothing(self, s3_env, bucket, blobs, monkeypatch):
        monkeypatch.setattr(plan, "SPLICE_PART_BYTES", 5000)
        with pytest.raises(DuplicateNameError):
            blobpack.merge([*blobs, blobs[0]], f"s3://{bucket}/o.tar")
        with blobpack.open_blob(blobs[1]) as cut:
            os.truncate(blobs[1], 20_000)
            with pytest.raises(StorageError, match=r"b\.tar"):
                blobpack.merge([blobs[0], cut], f"s3://{bucket}/o.tar")
        assert not s3_env.keys(bucket)
        assert not s3_env.uploads(bucket)

    def test_its_own_source_and_what_is_no_tar_are_not_replaced(self, s3_env, bucket, blobs):
        url = s3_env.put(bucket, "a.tar", blobs[0].read_bytes())
        with pytest.raises(StorageError, match="a source is read from this file"):
            blobpack.subset(url, url, ["0/000.bin"])
        s3_env.put(bucket, "notes", b"precious" * 100)
        with pytest.raises(StorageError, match="is no tar"):
            blobpack.merge(blobs, f"s3://{bucket}/notes")
        assert s3_env.stored(bucket, "notes") == b"precious" * 100

    def test_a_prefix_is_no_blob(self, bucket, blobs):
        with pytest.raises(ValueError, match="is a prefix"):
            blobpack.merge(blobs, f"s3://{bucket}/shards/")

    def test_the_commands(self, bucket, blobs):
        run("merge", *blobs, f"s3://{bucket}/o.tar")
        assert members_at(f"s3://{bucket}/o.tar") == PAYLOADS
        run("subset", f"s3://{bucket}/o.tar", f"s3://{bucket}/s.tar", "--filter", "0/*")
        assert set(members_at(f"s3://{bucket}/s.tar")) == {
            name for name in PAYLOADS if name[0] == "0"
        }
        ran = CliRunner().invoke(main, ["merge", str(blobs[0]), f"s3://{bucket}/x/"])
        assert ran.exit_code == 2
        assert "is a prefix" in ran.output


class TestCompressed:
    def test_a_packed_blob_has_the_bytes_of_a_local_one(self, s3_env, bucket, tmp_path):
        for place in (str(tmp_path), f"s3://{bucket}"):
            blobpack.pack(list(PAYLOADS.items()), f"{place}/o.tar.zst", all_files=True, level=5)
        assert s3_env.stored(bucket, "o.tar.zst") == (tmp_path / "o.tar.zst").read_bytes()
        assert members_at(f"s3://{bucket}/o.tar.zst") == PAYLOADS

    def test_the_commands(self, s3_env, bucket, blobs, tmp_path):
        (tmp_path / "imgs").mkdir()
        (tmp_path / "imgs" / "1.bin").write_bytes(b"one")
        run("pack", tmp_path / "imgs", f"s3://{bucket}/p.tar.zst", "--all", "--level", 9)
        assert members_at(f"s3://{bucket}/p.tar.zst") == {"1.bin": b"one"}
        run("repack", blobs[0], f"s3://{bucket}/r.tzst", "--all")
        run("repack", blobs[0], tmp_path / "r.tzst", "--all")
        assert s3_env.stored(bucket, "r.tzst") == (tmp_path / "r.tzst").read_bytes()

    def test_a_failure_leaves_nothing(self, s3_env, bucket, tmp_path, monkeypatch):
        def payloads():
            yield "a.bin", b"1"
            raise RuntimeError("no more")

        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with pytest.raises(RuntimeError):
            blobpack.pack(payloads(), f"s3://{bucket}/o.tar.zst", all_files=True)
        assert not s3_env.keys(bucket)
        assert not s3_env.uploads(bucket)
        assert not list(tmp_path.iterdir())


class TestOffsets:
    @pytest.mark.parametrize("format", ["pkl", "csv", "jsonl", "parquet"])
    def test_a_file_in_s3_has_the_bytes_of_a_local_one(
        self, s3_env, bucket, images, tmp_path, format
    ):
        index = blobpack.scan(images)
        name = f"o.{format}"
        for place in (tmp_path, f"s3://{bucket}"):
            assert blobpack.write_offsets(index, f"{place}/{name}", format=format) == 6
        assert s3_env.stored(bucket, name) == (tmp_path / name).read_bytes()
        # it may be replaced, because it is an offsets file of this kind
        blobpack.write_offsets(index.select("cats/*"), f"s3://{bucket}/{name}", format=format)
        assert s3_env.stored(bucket, name) != (tmp_path / name).read_bytes()

    @pytest.mark.parametrize("format", ["pkl", "csv", "jsonl", "parquet"])
    def test_what_is_of_another_kind_is_not_replaced(self, s3_env, bucket, images, format):
        url = s3_env.put(bucket, "notes", b"precious" * 100)
        index = blobpack.scan(images)
        with pytest.raises(StorageError, match="so it is not replaced"):
            blobpack.write_offsets(index, url, format=format)
        assert s3_env.stored(bucket, "notes") == b"precious" * 100
        blobpack.write_offsets(index, url, format=format, force=True)
        assert s3_env.stored(bucket, "notes") != b"precious" * 100

    def test_a_failure_leaves_nothing(self, s3_env, bucket, blobs):
        index = blobpack.Index(blobpack.Member(name, 512, 513) for name in ("a/x", "b/x"))
        for format in ("pkl", "parquet"):
            with pytest.raises(DuplicateNameError):
                blobpack.write_offsets(index, f"s3://{bucket}/o", "basename", format=format)
        assert not s3_env.keys(bucket)

    def test_the_command(self, s3_env, bucket, images, tmp_path):
        run("offsets", images, "-o", f"s3://{bucket}/o.csv")
        run("offsets", images, "-o", tmp_path / "o.csv")
        assert s3_env.stored(bucket, "o.csv") == (tmp_path / "o.csv").read_bytes()


class TestExtract:
    def test_each_member_is_an_object_with_its_media_type(
        self, s3_env, bucket, images, small_images
    ):
        with blobpack.open_blob(images) as blob:
            seen: list[blobpack.Progress] = []
            report = blobpack.extract(blob, f"s3://{bucket}/imgs", progress=seen.append)
        assert (report.members, report.hard_links) == (6, 0)
        assert report.payload_bytes == sum(map(len, small_images.values()))
        assert [each.done for each in seen] == [1, 2, 3, 4, 5, 6]
        assert seen[-1] == (6, report.payload_bytes, 6, report.payload_bytes)
        assert sorted(s3_env.keys(bucket)) == sorted(f"imgs/{name}" for name in small_images)
        for name, payload in small_images.items():
            found = s3_env.client.get_object(Bucket=bucket, Key=f"imgs/{name}")
            assert found["Body"].read() == payload
            assert found["ContentType"] == f"image/{'png' if name.endswith('png') else 'jpeg'}"

    def test_from_s3_to_a_whole_bucket(self, s3_env, bucket, blobs):
        url = s3_env.put(bucket, "a.tar", blobs[0].read_bytes())
        other = s3_env.new_bucket()
        with blobpack.open_blob(url) as blob:
            blobpack.extract(blob, f"s3://{other}", blob.index.select("0/*"))
        expected = {name: payload for name, payload in members_at(url).items() if name[0] == "0"}
        assert {key: s3_env.stored(other, key) for key in s3_env.keys(other)} == expected

    def test_names_are_those_that_files_would_have(self, s3_env, bucket, tmp_path):
        tar = Tar().file("./a//b", b"first").file("a/b", b"last").file("empty", b"")
        (tmp_path / "a.tar").write_bytes(bytes(tar.end().blob))
        with blobpack.open_blob(tmp_path / "a.tar", blobpack.scan(tmp_path / "a.tar")) as blob:
            report = blobpack.extract(blob, f"s3://{bucket}/x/")
        assert report.members == 2
        assert sorted(s3_env.keys(bucket)) == ["x/a/b", "x/empty"]
        assert s3_env.stored(bucket, "x/a/b") == b"last"

    def test_a_large_member_is_sent_in_parts(self, s3_env, bucket, tmp_path, sent):
        payload = random.Random(1).randbytes(9 * MIB)
        blobpack.pack([("big.bin", payload)], tmp_path / "a.tar", all_files=True)
        with blobpack.open_blob(tmp_path / "a.tar") as blob:
            blobpack.extract(blob, f"s3://{bucket}/x/")
        assert [name for name, _ in sent].count("UploadPart") == 2
        assert s3_env.stored(bucket, "x/big.bin") == payload

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("../evil", "outside the target folder"),
            ("/evil", "outside the target folder"),
            ("n" * 1023, "it has 1023 bytes, and at most 1022 are possible"),
            ("ä" * 512, "it has 1024 bytes"),
            ("a\udc80", "it is not UTF-8"),
        ],
    )
    def test_all_names_are_checked_first(self, s3_env, bucket, tmp_path, name, reason):
        (tmp_path / "a.tar").write_bytes(bytes(Tar().file("good", b"1").end().blob))
        members = [blobpack.Member("good", 512, 513), blobpack.Member(name, 512, 513)]
        with (
            blobpack.open_blob(tmp_path / "a.tar", blobpack.Index(members)) as blob,
            pytest.raises(UnsafeNameError, match=reason),
        ):
            blobpack.extract(blob, f"s3://{bucket}/x/")
        assert not s3_env.keys(bucket)

    def test_the_blob_itself_is_not_replaced(self, s3_env, bucket, tmp_path):
        url = f"s3://{bucket}/x/in.tar"
        blobpack.pack([("a.bin", b"1"), ("in.tar", b"2")], url, all_files=True)
        with pytest.raises(StorageError, match=r"x/in\.tar: can't be written, because members are"):
            blobpack.extract(url, f"s3://{bucket}/x/")
        assert s3_env.keys(bucket) == ["x/in.tar"]

    def test_a_key_of_1024_bytes(self, s3_env, bucket, tmp_path):
        blobpack.pack([("n" * 1022, b"1")], tmp_path / "a.tar", all_files=True)
        with blobpack.open_blob(tmp_path / "a.tar") as blob:
            blobpack.extract(blob, f"s3://{bucket}/x/")
        assert s3_env.keys(bucket) == ["x/" + "n" * 1022]

    def test_a_read_that_fails_says_how_many_objects_there_are(self, s3_env, bucket, blobs):
        with blobpack.open_blob(blobs[0], blobpack.scan(blobs[0])) as blob:
            names = [f"{i % 3}/{i:03}.bin" for i in range(30)]
            os.truncate(blobs[0], blob.index[names[20]].offset_start + 1)
            with pytest.raises(StorageError) as caught:
                blobpack.extract(blob, f"s3://{bucket}/x/")
        assert caught.value.__notes__ == [f"20 of 30 objects were written below s3://{bucket}/x/"]
        assert sorted(s3_env.keys(bucket)) == sorted(f"x/{name}" for name in names[:20])

    def test_a_write_that_fails_says_how_many_objects_there_are(self, s3_env, bucket, blobs):
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:PutObject",
            "Resource": f"arn:aws:s3:::{bucket}/x/2/*",
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        s3_env.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
        with (
            blobpack.open_blob(blobs[0]) as blob,
            pytest.raises(StorageError, match=f"s3://{bucket}/x/2/.*can't upload") as caught,
        ):
            blobpack.extract(blob, f"s3://{bucket}/x/")
        found = s3_env.keys(bucket)
        assert 0 < len(found) < 30
        assert caught.value.__notes__ == [
            f"{len(found)} of 30 objects were written below s3://{bucket}/x/"
        ]

    def test_memory_is_bounded(self, s3_env, bucket, tmp_path, monkeypatch):
        payloads = {f"{i}.bin": bytes(MIB // 4) for i in range(64)}
        blobpack.pack(list(payloads.items()), tmp_path / "a.tar", all_files=True)
        monkeypatch.setattr(extract_objects, "PUT_BYTES_AHEAD", MIB)
        with blobpack.open_blob(tmp_path / "a.tar") as blob:
            blobpack.extract(blob, f"s3://{bucket}/warm/", blob.index.select("1.bin"))
            tracemalloc.start()
            blobpack.extract(blob, f"s3://{bucket}/x/")
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < 6 * MIB

    def test_the_command(self, s3_env, bucket, images, small_images):
        output = run("extract", images, f"s3://{bucket}/imgs/", "--filter", "cats/*")
        assert f"to s3://{bucket}/imgs/" in output
        assert sorted(s3_env.keys(bucket)) == [
            f"imgs/{name}" for name in small_images if name.startswith("cats/")
        ]
