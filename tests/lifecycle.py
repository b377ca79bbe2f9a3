"""The life cycle of blobs on an S3 server, step by step: what every server must do, or refuse in one sentence.

Each step makes its own objects in a bucket of its own, and raises AssertionError if something is wrong, or blobpack's
error if the server lacks an ability.
"""

from __future__ import annotations

import io
import logging
import random
import tarfile
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pytest
from botocore.exceptions import ClientError
from s3server import close_clients, forget_clients

import blobpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cloudservers import CloudServer
    from s3server import Endpoint

MIB = 1 << 20
# Three parts of 8 MiB: with two of them, parts of several sizes would not be noticed.
SEVERAL_PARTS_BYTES = 17 * MIB
ODD_KEYS = ("a b+c&d=e.tar", "ä/ö~ü.tar", "%41%2F.tar", "(1)'*!,;:@$.tar")


class LacksError(Exception):
    """The server lets pass what it should refuse; the message says what."""


class Place(NamedTuple):
    """A bucket for one step.

    Attributes:
        server: The server itself, which the step fills and looks at.
        bucket: An empty bucket.
        folder: An empty local folder.
        monkeypatch: Changes the environment until the step ends.
        said: What blobpack has logged.
    """

    server: Endpoint | CloudServer
    bucket: str
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    said: list[str]

    def url(self, key: str) -> str:
        """Return the URL of an object in the bucket."""
        return self.server.url(self.bucket, key)

    def dangling(self) -> list[str]:
        """Return the keys of unfinished uploads; none if the server can't list them."""
        with suppress(ClientError):
            return self.server.uploads(self.bucket)
        return []


@cache
def members(count: int = 3, size: int = 700) -> dict[str, bytes]:
    """Return members of random bytes, by names."""
    rng = random.Random(f"{count} {size}")
    return {f"d{i % 7}/{i:04}.jpg": rng.randbytes(size + i) for i in range(count)}


def packed(place: Place, key: str, payloads: dict[str, bytes]) -> str:
    """Pack members to a key, and return its URL."""
    blobpack.pack(payloads.items(), place.url(key), all_files=True)
    return place.url(key)


def read_all(url: str) -> dict[str, bytes]:
    """Return the members of a blob or collection."""
    with blobpack.open(url) as blob:
        return dict(blob.items())


def pack_small(place: Place) -> None:
    url = packed(place, "out.tar", members())
    assert read_all(url) == members()


def pack_in_parts(place: Place) -> None:
    payloads = members(3, SEVERAL_PARTS_BYTES // 3)
    # a generator: the size of the blob is not known before
    blobpack.pack(
        ((name, payload) for name, payload in payloads.items()),
        place.url("out.tar"),
        all_files=True,
    )
    assert read_all(place.url("out.tar")) == payloads


def open_blob(place: Place) -> None:
    url = packed(place, "out.tar", members(600))
    with blobpack.open_blob(url) as blob:
        assert [member.name for member in blob.index] == [*members(600)]


def read_one(place: Place) -> None:
    url = packed(place, "out.tar", members(600))
    with blobpack.open_blob(url) as blob:
        assert blob.read("d1/0001.jpg") == members(600)["d1/0001.jpg"]


def read_many(place: Place) -> None:
    url = packed(place, "out.tar", members(600))
    wanted = sorted(members(600))[::-1][:500]
    with blobpack.open_blob(url) as blob:
        assert list(blob.read_many(wanted)) == [members(600)[name] for name in wanted]


def list_blobs(place: Place) -> None:
    for key in ("set/a.tar", "set/deep/b.tar"):
        packed(place, key, {f"{key}.jpg": b"x" * 700})
    report = blobpack.collect(place.url("set/**/*.tar"), place.folder / "all.idx")
    assert (report.blobs, report.members) == (2, 2)


def verify(place: Place) -> None:
    report = blobpack.verify(packed(place, "out.tar", members(50)))
    assert (report.members, report.failures) == (50, [])


def index_foreign(place: Place) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, payload in members(300).items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    url = place.server.put(place.bucket, "foreign.tar", file.getvalue())
    blobpack.scan(url).save(f"{url}.idx")
    with blobpack.open_blob(url) as blob:
        assert dict(blob.items()) == members(300)


def pack_a_prefix(place: Place) -> None:
    for name, payload in members(20).items():
        place.server.put(place.bucket, f"loose/{name}", payload)
    blobpack.pack(place.url("loose/"), place.url("out.tar"), all_files=True)
    assert read_all(place.url("out.tar")) == members(20)


def _append(url: str, new: dict[str, bytes]) -> None:
    """Append members; if the server can't tell an object's properties, append without them, and raise the refusal."""
    try:
        blobpack.append(url, list(new.items()), all_files=True)
    except blobpack.StorageError as exc:
        if "drop=" not in str(exc):
            raise
        blobpack.append(url, list(new.items()), all_files=True, drop=("acl", "tags"))
        raise


def append_small(place: Place) -> None:
    url = packed(place, "out.tar", members())
    new = {"new.jpg": b"new" * 99}
    try:
        _append(url, new)
    finally:
        assert read_all(url) in (members(), members() | new)
    assert read_all(url) == members() | new


def append_large(place: Place) -> None:
    payloads = members(2, 6 * MIB)
    url = packed(place, "out.tar", payloads)
    new = {"e/1.jpg": b"1" * 9 * MIB, "e/2.jpg": b"2" * 99}
    try:
        _append(url, new)
    finally:
        assert read_all(url) in (payloads, payloads | new)
    assert read_all(url) == payloads | new


def overwrite(place: Place) -> None:
    url = packed(place, "out.tar", members(400))
    other = place.server.stored(place.bucket, "out.tar")[::-1]
    with blobpack.open_blob(url) as blob:
        place.server.put(place.bucket, "out.tar", other)
        try:
            blob.read("d1/0001.jpg")
        except blobpack.BlobChangedError:
            return
        raise LacksError(place.said[0])


def shards(place: Place) -> None:
    report = blobpack.pack_shards(
        members(40, 3000).items(), place.url("set/"), 50_000, all_files=True
    )
    assert report.shards > 2
    assert read_all(place.url("set/")) == members(40, 3000)
    blobpack.append(place.url("set/collection.idx"), [("new.jpg", b"n" * 99)], all_files=True)
    assert read_all(place.url("set/")) == members(40, 3000) | {"new.jpg": b"n" * 99}


def resume(place: Place) -> None:
    payloads = members(3, SEVERAL_PARTS_BYTES // 3)

    def cut() -> object:
        yield from payloads.items()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blobpack.pack(cut(), place.url("out.tar"), all_files=True, resume=True)
    blobpack.pack(payloads.items(), place.url("out.tar"), all_files=True, resume=True)
    assert read_all(place.url("out.tar")) == payloads


def use_cache(place: Place) -> None:
    url = packed(place, "out.tar", members(400))
    for read_before in (False, True):
        with blobpack.open_blob(url, cache=place.folder / "cache") as blob:
            opened = blob.stats.requests
            assert blob.read("d1/0001.jpg") == members(400)["d1/0001.jpg"]
            if read_before and place.said:
                raise LacksError(place.said[0])
            assert (blob.stats.requests == opened) is read_before


def wrong_key(place: Place) -> None:
    url = packed(place, "out.tar", members())
    place.server.lose_key(place.monkeypatch)
    forget_clients()
    try:
        read_all(url)
    except blobpack.StorageError as exc:
        assert exc.status == 403, exc
    else:
        raise LacksError("the server accepts any key")


def missing_bucket(place: Place) -> None:
    missing = place._replace(bucket=f"{place.bucket}-none")
    for work in (
        lambda: read_all(missing.url("out.tar")),
        lambda: packed(missing, "out.tar", members()),
    ):
        with pytest.raises(blobpack.BlobNotFoundError):
            work()


def missing_key(place: Place) -> None:
    with pytest.raises(blobpack.BlobNotFoundError):
        read_all(place.url("none.tar"))


def odd_keys(place: Place) -> None:
    for key in ODD_KEYS:
        assert read_all(packed(place, key, {f"{key}.jpg": b"x" * 700})) == {
            f"{key}.jpg": b"x" * 700
        }
    for key in ODD_KEYS:
        place.server.put(place.bucket, f"loose/{key}", key.encode())
    blobpack.pack(place.url("loose/"), place.folder / "out.tar", all_files=True)
    assert read_all(place.folder / "out.tar") == {key: key.encode() for key in ODD_KEYS}


STEPS: dict[str, Callable[[Place], None]] = {
    "pack": pack_small,
    "pack in parts": pack_in_parts,
    "open": open_blob,
    "read one": read_one,
    "read 500": read_many,
    "list": list_blobs,
    "verify": verify,
    "index a foreign tar": index_foreign,
    "pack a prefix": pack_a_prefix,
    "append, small": append_small,
    "append, large": append_large,
    "overwrite while open": overwrite,
    "shards, collection": shards,
    "resume": resume,
    "cache": use_cache,
    "wrong key": wrong_key,
    "missing bucket": missing_bucket,
    "missing key": missing_key,
    "odd keys": odd_keys,
}


class _Sayings(logging.Handler):
    """Keeps what is logged as a warning."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())


def run(
    step: str, server: Endpoint | CloudServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Run a step; return "" if it works, or the sentence with which blobpack refuses it.

    Raises:
        AssertionError: the step does wrong, or leaves an unfinished upload behind.
    """
    place = Place(server, server.new_bucket(), folder, monkeypatch, [])
    refused = ""
    handler = _Sayings(place.said)
    logging.getLogger("blobpack").addHandler(handler)
    try:
        STEPS[step](place)
    except (blobpack.BlobpackError, LacksError) as exc:
        refused = str(exc)
    finally:
        logging.getLogger("blobpack").removeHandler(handler)
        close_clients()
    # a resume that is refused keeps nothing either: the upload has not begun
    assert not place.dangling()
    return refused
