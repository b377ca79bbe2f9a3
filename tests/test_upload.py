"""An object written front to back in S3: the right bytes, under its conditions, and nothing left dangling."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.access.uploads import UPLOAD_PART_BYTES_MIN
from blobpack.stores.s3.bucket import ObjectKey
from blobpack.stores.s3.multipart import (
    PARTS_MAX,
    UPLOAD_PART_BYTES,
    part_size,
)
from blobpack.stores.s3.store import S3Store
from blobpack.stores.s3.upload import Upload, uploading

MIB = 1 << 20


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        UPLOAD_PART_BYTES - 1,
        UPLOAD_PART_BYTES,
        UPLOAD_PART_BYTES + 1,
        3 * UPLOAD_PART_BYTES,
        30 * MIB + 7,
    ],
)
def test_what_is_written_is_there(s3_env, bucket, size):
    data, url = content(size), f"s3://{bucket}/dir/ä b+%25.bin"
    rng = random.Random(1)
    with uploading(url) as upload:
        pos = 0
        while pos < size:
            pos += upload.write(data[pos : pos + rng.randrange(1, 3 * MIB)])
        assert upload.tell() == size
        with pytest.raises(BlobNotFoundError):  # it appears whole or not at all
            S3Store(url)
    assert s3_env.stored(bucket, "dir/ä b+%25.bin") == data
    assert S3Store(url).version == upload.version
    assert not s3_env.uploads(bucket)


def test_a_small_object_is_one_request(bucket, sent):
    with uploading(f"s3://{bucket}/small") as upload:
        upload.write(b"x" * 1000)
    assert [operation for operation, _ in sent] == ["PutObject"]


@pytest.mark.parametrize("written", [0, 100, 3 * UPLOAD_PART_BYTES])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_dangles_after_a_failure_or_ctrl_c(s3_env, bucket, written, error):
    with pytest.raises(error), uploading(f"s3://{bucket}/out") as upload:
        upload.write(bytes(written))
        raise error
    assert not s3_env.uploads(bucket)
    with pytest.raises(BlobNotFoundError):
        S3Store(f"s3://{bucket}/out")


def test_nothing_dangles_after_a_second_ctrl_c(s3_env, bucket, monkeypatch):
    """While the parts under way are awaited."""
    stop = Upload.stop

    def interrupted(upload: Upload) -> None:
        monkeypatch.setattr(Upload, "stop", stop)
        raise KeyboardInterrupt

    monkeypatch.setattr(Upload, "stop", interrupted)
    with pytest.raises(KeyboardInterrupt), uploading(f"s3://{bucket}/out") as upload:
        upload.write(bytes(3 * UPLOAD_PART_BYTES))
        raise KeyboardInterrupt
    assert not s3_env.uploads(bucket)


@pytest.mark.parametrize(
    ("operation", "answered"),
    [
        ("create_multipart_upload", True),
        ("abort_multipart_upload", False),
        ("abort_multipart_upload", True),
    ],
)
def test_nothing_dangles_after_ctrl_c_in_a_request(
    s3_env, bucket, monkeypatch, operation, answered
):
    """Before or after S3 has answered the one that begins or aborts the upload."""
    ask = ObjectKey.ask

    raised = threading.Event()

    def interrupt(*_: object) -> None:
        raised.set()
        raise KeyboardInterrupt

    def ctrl_c() -> None:
        raised.clear()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        assert raised.wait(120)

    def interrupted(target: ObjectKey, asked: str, **arguments: Any) -> Any:
        if asked != operation:
            return ask(target, asked, **arguments)
        if not answered:
            ctrl_c()
        answer = ask(target, asked, **arguments)
        if answered:
            ctrl_c()
        return answer

    monkeypatch.setattr(ObjectKey, "ask", interrupted)
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), uploading(f"s3://{bucket}/out") as upload:
            upload.begin()
            raise ValueError
    finally:
        signal.signal(signal.SIGINT, before)
    assert not s3_env.uploads(bucket)


def test_a_failed_part_fails_the_upload_and_leaves_nothing(s3_env, bucket, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    began = threading.active_count()
    with (
        pytest.raises(StorageError, match=r"can't upload part \d"),
        uploading(f"s3://{bucket}/out") as upload,
    ):
        upload.write(bytes(UPLOAD_PART_BYTES + 1))
        s3_env.client.abort_multipart_upload(Bucket=bucket, Key="out", UploadId=upload.multipart.id)
        upload.write(bytes(4 * UPLOAD_PART_BYTES))
    assert not s3_env.uploads(bucket)
    assert threading.active_count() <= began


class TestConditions:
    @pytest.mark.parametrize("size", [10, UPLOAD_PART_BYTES + 1])
    def test_another_object_is_not_replaced(self, s3_env, bucket, size):
        url = s3_env.put(bucket, "out", b"old")
        with (
            pytest.raises(BlobChangedError, match="was changed meanwhile"),
            uploading(url, replaces='"0"') as upload,
        ):
            upload.write(bytes(size))
        assert s3_env.stored(bucket, "out") == b"old"
        assert not s3_env.uploads(bucket)

    def test_the_right_one_is_replaced(self, s3_env, bucket):
        url = s3_env.put(bucket, "out", b"old")
        with uploading(url, replaces=S3Store(url).version) as upload:
            upload.begin()
            upload.write(b"new")
        assert s3_env.stored(bucket, "out") == b"new"

    def test_a_new_one_replaces_none(self, s3_env, bucket):
        url = s3_env.put(bucket, "out", b"old")
        with (
            pytest.raises(BlobChangedError, match="exists already"),
            uploading(url, new=True) as upload,
        ):
            upload.write(b"new")
        assert s3_env.stored(bucket, "out") == b"old"

    @pytest.mark.parametrize("size", [10, UPLOAD_PART_BYTES + 10])
    @pytest.mark.parametrize("condition", [{"new": True}, {"replaces": '"other"'}])
    def test_the_object_is_looked_at_before_the_write(self, s3_env, bucket, sent, condition, size):
        """Servers that ignore conditions are not asked to make the object."""
        url = s3_env.put(bucket, "out", b"old")
        with pytest.raises(BlobChangedError), uploading(url, **condition) as upload:
            upload.write(bytes(size))
        assert not {"PutObject", "CompleteMultipartUpload"} & {operation for operation, _ in sent}
        assert s3_env.stored(bucket, "out") == b"old"

    def test_while_another_upload_is_under_way_nothing_is_replaced(self, s3_env, bucket):
        url = s3_env.put(bucket, "out", b"old")
        other = s3_env.client.create_multipart_upload(Bucket=bucket, Key="out")["UploadId"]
        with (
            pytest.raises(BlobChangedError, match=f"upload {other}"),
            uploading(url, replaces=S3Store(url).version) as upload,
        ):
            upload.begin()
            upload.write(b"new")
        assert s3_env.stored(bucket, "out") == b"old"
        assert s3_env.uploads(bucket) == ["out"]


class TestCopy:
    def test_the_start_of_another_object_is_taken_without_fetching_it(self, s3_env, bucket, sent):
        old = content(23 * MIB)
        url = s3_env.put(bucket, "out", old)
        source = S3Store(url)
        with uploading(url, replaces=source.version) as upload:
            upload.copy(source, 17 * MIB + 5)
            upload.write(b"and more")
        assert s3_env.stored(bucket, "out") == old[: 17 * MIB + 5] + b"and more"
        # two copies of one size, and the byte that is left
        assert source.stats.bytes_fetched == 1

    def test_small_parts_are_copied_in_five_mib_at_least(self, s3_env, bucket, monkeypatch):
        monkeypatch.setattr("blobpack.stores.s3.multipart.UPLOAD_PART_BYTES", MIB)
        old = content(23 * MIB)
        source = S3Store(s3_env.put(bucket, "old", old))
        with uploading(f"s3://{bucket}/new") as upload:
            upload.copy(source, len(old))
            assert upload.multipart.parts == len(old) // UPLOAD_PART_BYTES_MIN
            upload.write(b"!")
        assert s3_env.stored(bucket, "new") == old + b"!"


KILLED = """
import sys, time
from blobpack.stores.s3.upload import uploading
with uploading(sys.argv[1], resume=True) as upload:
    upload.write(sys.stdin.buffer.read())
    upload.multipart.settle()
    print("up", flush=True)
    time.sleep(100)
"""


class TestResume:
    def interrupt(self, s3, url: str, data: bytes) -> None:
        """Kill a process in the midst of an upload."""
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, url],
            env=s3.env(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        child.stdin.write(data)
        child.stdin.close()
        assert child.stdout.readline() == b"up\n"
        child.kill()
        child.wait()
        child.stdout.close()

    def test_parts_of_the_same_bytes_are_not_sent_again(self, s3_env, bucket, sent):
        data = content(4 * UPLOAD_PART_BYTES + 9)
        url = f"s3://{bucket}/out"
        self.interrupt(s3_env, url, data)
        assert s3_env.uploads(bucket) == ["out"]
        with uploading(url, resume=True) as upload:
            upload.write(data)
        assert [operation for operation, _ in sent].count("UploadPart") == 1
        assert s3_env.stored(bucket, "out") == data
        assert not s3_env.uploads(bucket)

    def test_parts_of_other_bytes_are(self, s3_env, bucket, sent):
        data = content(4 * UPLOAD_PART_BYTES + 9)
        url = f"s3://{bucket}/out"
        self.interrupt(s3_env, url, data)
        changed = data[:100] + b"!" + data[101:]
        with uploading(url, resume=True) as upload:
            upload.write(changed)
        assert [operation for operation, _ in sent].count("UploadPart") == 2
        assert s3_env.stored(bucket, "out") == changed

    def test_what_became_small_goes_alone_and_nothing_dangles(self, s3_env, bucket):
        url = f"s3://{bucket}/out"
        self.interrupt(s3_env, url, content(2 * UPLOAD_PART_BYTES))
        with uploading(url, resume=True) as upload:
            upload.write(b"small")
        assert s3_env.stored(bucket, "out") == b"small"
        assert not s3_env.uploads(bucket)

    @pytest.mark.parametrize("size", [5, 2 * UPLOAD_PART_BYTES + 1])
    def test_an_upload_that_another_process_began_later_goes_on(self, size, s3_env, bucket):
        url = f"s3://{bucket}/out"
        with uploading(url) as other:
            with uploading(url, resume=True) as upload:
                other.begin()
                upload.write(content(size))
            assert s3_env.stored(bucket, "out") == content(size)
            assert s3_env.uploads(bucket) == ["out"]
            other.write(b"other")
        assert s3_env.stored(bucket, "out") == b"other"
        assert not s3_env.uploads(bucket)

    def test_a_failure_keeps_the_parts_for_the_next(self, s3_env, bucket):
        url = f"s3://{bucket}/out"
        with (
            pytest.raises(ValueError, match="stop") as caught,
            uploading(url, resume=True) as upload,
        ):
            upload.write(bytes(2 * UPLOAD_PART_BYTES))
            raise ValueError("stop")
        assert "kept" in caught.value.__notes__[0]
        assert s3_env.uploads(bucket) == ["out"]


@pytest.mark.parametrize("expected", [None, 0, 10**9, 10**12, 5 * 1024**4])
def test_ten_thousand_parts_suffice(expected):
    sizes = [part_size(number, expected) for number in range(1, PARTS_MAX + 1)]
    assert min(sizes) >= UPLOAD_PART_BYTES_MIN
    assert max(sizes) <= 5 << 30
    assert sum(sizes) >= (7 << 40 if expected is None else expected)
