"""Presigned URLs and passwords appear in no message, report, repr, log, warning or file name."""

from __future__ import annotations

import csv
import logging
import pickle
import subprocess
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from click.testing import CliRunner
from s3server import close_idle_connections
from test_cli import COMMAND

import blobpack
from blobpack.cli.main import main
from blobpack.errors import BlobpackError
from blobpack.stores.http import retry
from blobpack.stores.location import Location
from blobpack.stores.open import open_store, open_tar
from blobpack.stores.s3.unfinished import find_unfinished
from blobpack.writing.embed import embed_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3server import S3Server

PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)


class Presigned:
    """Presigned URLs of objects in a bucket, and what of them is secret."""

    def __init__(self, s3: S3Server, bucket: str) -> None:
        self.s3, self.bucket = s3, bucket
        config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
        self._client = s3.new_client(config=config)
        self.secrets: set[str] = {"SECRET"}

    def close(self) -> None:
        self._client.close()

    def put(self, key: str, data: bytes) -> str:
        self.s3.put(self.bucket, key, data)
        return self.url(key)

    def url(self, key: str) -> str:
        url = self._client.generate_presigned_url(
            "get_object", Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=900
        )
        self.secrets |= {part.partition("=")[2] for part in urlsplit(url).query.split("&")} - {""}
        # the signed headers, "host", the algorithm and the time are the same for everybody
        self.secrets = {secret for secret in self.secrets if len(secret) > 16 or secret == "SECRET"}
        self.secrets.add(self.s3.access_key)
        return url

    def check(self, text: str) -> None:
        for secret in self.secrets:
            assert secret not in text, text
        assert "X-Amz-" not in text, text


@pytest.fixture
def presigned(s3_env: S3Server, bucket: str) -> Iterator[Presigned]:
    made = Presigned(s3_env, bucket)
    yield made
    made.close()
    close_idle_connections()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_MAX_S", 0.001)
    monkeypatch.setattr(retry, "TRIED_FOR_S", 0)


@pytest.fixture
def urls(presigned: Presigned, tmp_path: Path) -> dict[str, str]:
    """Presigned URLs of blobs in all states that a message may speak of."""
    blobpack.pack([("a.png", PNG), ("b.png", PNG + b"b")], tmp_path / "good.tar")
    good = (tmp_path / "good.tar").read_bytes()
    blobpack.pack([("a.png", PNG), ("b.png", PNG)], tmp_path / "plain.tar", index="none")
    plain = (tmp_path / "plain.tar").read_bytes()
    blobpack.repack(tmp_path / "plain.tar", tmp_path / "z.tar.zst")
    compressed = (tmp_path / "z.tar.zst").read_bytes()
    url = presigned.url("good.tar")
    host = urlsplit(url).netloc
    return {
        "good": presigned.put("good.tar", good),
        "plain": presigned.put("plain.tar", plain),
        "compressed": presigned.put("z.tar.zst", compressed),
        "damaged payload": presigned.put("payload.tar", good.replace(PNG + b"b", PNG + b"c")),
        "damaged header": presigned.put("header.tar", plain[:600] + b"x" * 600 + plain[1200:]),
        "damaged index": presigned.put("index.tar", good[:-200] + bytes(60) + good[-140:]),
        "damaged footer": presigned.put("footer.tar", good[:-40] + bytes(8) + good[-32:]),
        "damaged zstd": presigned.put("bad.tar.zst", compressed[:20] + bytes(9) + compressed[29:]),
        "cut": presigned.put("cut.tar", plain[:700]),
        "no tar": presigned.put("no.tar", b"nothing" * 200),
        "empty": presigned.put("empty.tar", b""),
        "gone": presigned.url("gone.tar"),
        "refused": url.replace("good.tar", "plain.tar"),
        "no server": url.replace(host, "127.0.0.1:9"),
        "no host": url.replace(host, "no-such-host.invalid"),
        "no port": url.replace(host, f"{urlsplit(url).hostname}:SECRET@x"),
        "user": url.replace("http://", "http://SECRET:SECRET@"),
        "scheme": url.replace("http://", "htp://"),
        "user and scheme": "ftp://SECRET:SECRET@host/x.tar?token=SECRET",
        "fragment": url + "#SECRET",
    }


def chain_of(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def texts_of(thing: object) -> Iterator[str]:
    """Everything that is shown of a result or an error."""
    yield str(thing)
    yield repr(thing)
    if isinstance(thing, BaseException):
        for exc in chain_of(thing):
            yield from (str(exc), repr(exc), repr(exc.args), repr(vars(exc)))
            yield "".join(traceback.format_exception(exc))
        if isinstance(thing, BlobpackError):
            yield str(pickle.loads(pickle.dumps(thing)))
    for name in ("url", "failures", "store", "index", "location", "report", "paths"):
        if hasattr(thing, name):
            yield f"{getattr(thing, name)!s} {getattr(thing, name)!r}"


def uses_of(url: str, good: str, folder: Path) -> dict[str, Callable[[], object]]:
    """Ways to use a URL that read, show or refuse it."""

    def read(name: str, *, index: Any = None) -> object:
        with blobpack.open_blob(url, index=index) as blob:
            return [
                blob,
                str(blob.store),
                blob.read(name),
                pickle.loads(pickle.dumps(blob)),
                blob.url,
                blob.stats,
            ]

    def read_all() -> object:
        with blobpack.open_blob(url, cache=folder / "cache") as blob:
            return list(blob.read_many([member.name for member in blob.index]))

    def collected() -> object:
        report = blobpack.collect([url, good], folder / "c.idx", scan=True, duplicates="last")
        with blobpack.open_collection(folder / "c.idx") as collection:
            return [report, collection, collection.read("a.png")]

    def manifest() -> object:
        (folder / "list.txt").write_text(url)
        return blobpack.pack(blobpack.read_manifest(folder / "list.txt"), folder / "packed.tar")

    def other_manifest() -> object:
        (folder / "list.csv").write_text(f"url,name\n{url},../x\n")
        return blobpack.read_manifest(folder / "list.csv")

    def based() -> object:
        (folder / "names.txt").write_text("a\nb\n")
        source = blobpack.read_manifest(folder / "names.txt", base=url)
        return blobpack.pack(source, folder / "packed.tar")

    return {
        "read": lambda: read("a.png"),
        "read another": lambda: read("nothing.png"),
        "read with an index": lambda: read("a.png", index=url),
        "read all": read_all,
        "image": lambda: blobpack.read_image(url, "a.png"),
        "verify": lambda: blobpack.verify(url),
        "scan": lambda: blobpack.scan(url),
        "load": lambda: blobpack.Index.load(url),
        "save": lambda: blobpack.Index().save(url),
        "collect": collected,
        "collection": lambda: blobpack.open_collection(url),
        "allow": lambda: blobpack.open_collection(folder / "none.idx", allow=url),
        "merge": lambda: blobpack.merge([url, good], folder / "merged.tar"),
        "merge twice": lambda: blobpack.merge([url, url], folder / "merged.tar"),
        "merge to": lambda: blobpack.merge([good], url),
        "subset": lambda: blobpack.subset(url, folder / "subset.tar", ["a.png"]),
        "repack": lambda: blobpack.repack(url, folder / "repacked.tar"),
        "pack": lambda: blobpack.pack(url, folder / "packed.tar"),
        "pack several": lambda: blobpack.pack([url], folder / "packed.tar"),
        "pack to": lambda: blobpack.pack([("a", b"")], url),
        "shards": lambda: blobpack.pack_shards([("a", b"")], url, shard_bytes=10_000),
        "append": lambda: blobpack.append(url, [("a", b"")]),
        "extract": lambda: blobpack.extract(blobpack.open_blob(good), url),
        "manifest": manifest,
        "other manifest": other_manifest,
        "based": based,
        "manifest at": lambda: blobpack.read_manifest(url),
        "cache at": lambda: blobpack.open_blob(good, cache=url),
        "offsets": lambda: blobpack.read_offsets(url),
        "offsets to": lambda: blobpack.write_offsets(blobpack.Index(), url),
        "embed": lambda: embed_index(Location.parse(url)),
        "unfinished": lambda: find_unfinished(url),
        "location": lambda: Location.parse(url),
        "store": lambda: open_store(url, tail=True),
        "tar": lambda: open_tar(url),
    }


STATES = [
    *("good", "plain", "compressed", "damaged payload", "damaged header", "damaged index"),
    *("damaged footer", "damaged zstd", "cut", "no tar", "empty", "gone", "refused", "no server"),
    *("no host", "no port", "user", "scheme", "user and scheme", "fragment"),
]


@pytest.mark.parametrize("state", STATES)
def test_no_error_result_or_log_holds_a_secret(
    presigned: Presigned,
    urls: dict[str, str],
    tmp_path: Path,
    state: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG, "blobpack")
    failed = 0
    uses = uses_of(urls[state], urls["good"], tmp_path)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for use in uses.values():
            try:
                result = use()
            except (BlobpackError, ValueError, TypeError) as exc:
                failed += 1
                result = exc
            for shown in result if isinstance(result, list) else [result]:
                for text in texts_of(shown):
                    presigned.check(text)
    for warning in warned:
        presigned.check(str(warning.message))
    presigned.check(caplog.text)
    assert failed >= 5
    presigned.check("\n".join(str(path) for path in tmp_path.rglob("*")))


COMMANDS = [
    "cat URL a.png",
    "cat URL nothing.png",
    "cat good.tar a.png --index-file URL",
    "cat URL a.png --index-file URL --stats",
    "cat URL a.png --cache cached",
    "cat good.tar a.png --cache URL",
    "ls URL",
    "ls good.tar URL",
    "ls URL --json",
    "info URL",
    "info URL --json",
    "verify URL",
    "verify URL --json",
    "offsets URL",
    "offsets URL --format csv",
    "offsets good.tar -o URL",
    "index URL",
    "index good.tar -o URL",
    "index URL --index embed",
    "extract URL files",
    "extract good.tar URL",
    "collect URL URL -o c.idx --scan",
    "collect URL -o URL",
    "merge merged.tar URL URL",
    "merge new.tar URL",
    "subset URL subset.tar",
    "repack URL repacked.tar",
    "pack URL packed.tar",
    "pack good.tar URL",
    "append URL good.tar",
    "append good.tar URL",
    "uploads URL",
    "pack --manifest list.txt packed.tar",
]


@pytest.mark.parametrize("state", ["good", "damaged payload", "gone", "user", "scheme"])
def test_no_command_prints_a_secret(
    presigned: Presigned,
    urls: dict[str, str],
    tmp_path: Path,
    state: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "list.txt").write_text(urls[state])
    monkeypatch.chdir(tmp_path)
    failed = 0
    for line in COMMANDS:
        arguments = [urls[state] if word == "URL" else word for word in line.split()]
        done = CliRunner().invoke(main, arguments)
        failed += done.exit_code != 0
        presigned.check(done.output)
        for text in texts_of(done.exception):
            presigned.check(text)
    assert failed >= 5
    presigned.check("\n".join(str(path) for path in tmp_path.rglob("*")))


def test_a_command_of_its_own_process_prints_no_secret(
    presigned: Presigned, urls: dict[str, str], tmp_path: Path
) -> None:
    for line in ("cat URL a.png --stats", "cat URL none", "verify URL", "offsets URL"):
        arguments = [urls["good"] if word == "URL" else word for word in line.split()]
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=tmp_path,
            env=presigned.s3.env(),
            capture_output=True,
            check=False,
        )
        presigned.check((done.stdout + done.stderr).decode("latin-1"))
    assert (tmp_path / "good_offsets.pkl").exists()
    presigned.check("\n".join(str(path) for path in tmp_path.rglob("*")))


def test_a_table_of_many_blobs_holds_urls_that_open(
    presigned: Presigned, urls: dict[str, str], tmp_path: Path
) -> None:
    blobpack.pack([("c.png", PNG)], tmp_path / "c.tar")
    blobs = [urls["good"], presigned.put("c.tar", (tmp_path / "c.tar").read_bytes())]
    blobpack.collect(blobs, tmp_path / "c.idx")
    with blobpack.open_collection(
        tmp_path / "c.idx", allow=urls["good"].partition("?")[0]
    ) as found:
        blobpack.write_offsets(found, tmp_path / "o.csv", format="csv")
    with (tmp_path / "o.csv").open(newline="") as table:
        assert {row["blob"] for row in csv.DictReader(table)} == set(blobs)
    # and the list of places that hold secrets has it
    guarantees = Path(__file__).parent.parent / "docs" / "guarantees.md"
    assert "the column `blob` of an offsets table" in guarantees.read_text()
