"""A listing of a prefix in S3 that is kept in a file, so that later sessions ask only for newer keys.

Strategy: each page of the listing becomes one line of the file as it arrives. A later session takes the pages from the file,
and asks S3 for what follows the last key (StartAfter). The newest annotated key would be the wrong place to go on from:
annotators answer out of order, skip and undo, and several of them work at once, so images before that key may have no answer
yet. So the file keeps all listed keys, whether or not they are annotated.

A kept listing does not contain new objects whose keys sort before its last key. Only listing from the start finds them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blobpack.errors import FormatError, StorageError
from blobpack.stores.access.listed import Listed
from blobpack.stores.s3.client import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from blobpack.stores.s3.bucket import Bucket


class KeptListing:
    """The objects below a prefix, in the order of their keys, page by page.

    Attributes:
        path: The file that keeps the listing.
        kept: Number of objects that the file held when it was opened.
        url: URL of the prefix.
    """

    def __init__(
        self,
        bucket: Bucket,
        prefix: str,
        path: str | os.PathLike[str] | None = None,
        *,
        relist: bool = False,
    ) -> None:
        """Read what the file holds. No request is sent.

        Args:
            bucket: The bucket, which counts the requests.
            prefix: How the keys begin.
            path: The file; None: one in the user's cache folder, for this server, bucket and prefix.
            relist: Forget what the file holds, and list from the start.

        Raises:
            FormatError: the file is another one, or the listing of another prefix.
            StorageError: the file can't be read or written, or the AWS configuration is wrong.
        """
        self._bucket = bucket
        self._prefix = prefix
        self.url = f"s3://{bucket.name}/{prefix}"
        self._head = {
            "blobpack": "listing",
            "endpoint": client_of(bucket.options).meta.endpoint_url,
            "bucket": bucket.name,
            "prefix": prefix,
        }
        self.path = Path(path) if path is not None else _default_path(self._head)
        try:
            self._pages = self._open(relist=relist)
        except OSError as exc:
            raise self._unusable(exc) from exc
        self.kept = sum(map(len, self._pages))

    def pages(self) -> Iterator[list[Listed]]:
        """Yield the pages that were kept, then those that S3 returns now. Each of these is kept before it is yielded.

        Raises:
            BlobNotFoundError: there is no such bucket.
            StorageError: S3 refused or could not be reached, or the file can't be written.
        """
        last = ""
        for page in self._pages:
            yield page
            last = page[-1].key
        while True:
            after = {"StartAfter": last} if last else {}
            answer = self._bucket.ask(
                "list_objects_v2", what="list objects", Prefix=self._prefix, **after
            )
            page = [
                Listed(found["Key"], found["Size"], found["ETag"])
                for found in answer.get("Contents", ())
            ]
            self._check_order(last, page)
            if page:
                self._keep(page)
                yield page
                last = page[-1].key
            if not page or not answer.get("IsTruncated"):
                return

    def _check_order(self, last: str, page: list[Listed]) -> None:
        keys = [_in_order(last), *(_in_order(listed.key) for listed in page)]
        if any(first >= second for first, second in pairwise(keys)):
            # directory buckets (S3 Express One Zone) are listed in no order, and know no StartAfter
            raise StorageError(
                f"{self.url}: the server does not list keys in their order, so the listing "
                f"can't be continued later"
            )

    def _open(self, *, relist: bool) -> list[list[Listed]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            # another session may write a line at this moment
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            lines = file.read().split(b"\n")
            if lines == [b""] or relist:
                file.truncate(0)
                _write_line(file, self._head)
                return []
            # behind the last newline may be half a line, of a session that was killed
            file.truncate(sum(len(line) + 1 for line in lines[:-1]))
        return self._parse(lines[:-1])

    def _parse(self, lines: list[bytes]) -> list[list[Listed]]:
        try:
            head, *pages = map(json.loads, lines)
            listed = [[Listed(*entry) for entry in page] for page in pages]
        except (ValueError, TypeError) as exc:
            raise FormatError(f"{self.path} is not the listing of a prefix: {exc}") from exc
        if head != self._head:
            raise FormatError(f"{self.path} is not the listing of {self.url} on this server")
        # two sessions that listed at the same time have both written their pages
        pages, last = [], b""
        for page in listed:
            if page and _in_order(page[0].key) > last:
                pages.append(page)
                last = _in_order(page[-1].key)
        return pages

    def _keep(self, page: list[Listed]) -> None:
        try:
            with self.path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                _write_line(file, page)
        except OSError as exc:
            raise self._unusable(exc) from exc

    def _unusable(self, exc: OSError) -> StorageError:
        return StorageError(
            f"{self.path}, which keeps the listing, can't be read or written: {exc.strerror}; name another file"
        )


def _write_line(file: BinaryIO, value: Any) -> None:
    file.write(json.dumps(value).encode() + b"\n")
    file.flush()


def _default_path(head: dict[str, Any]) -> Path:
    # XDG Base Directory Specification: an empty variable counts as unset
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()
    return cache / "blobpack" / "listings" / f"{digest[:32]}.jsonl"


def _in_order(key: str) -> bytes:
    # S3 sorts keys by their UTF-8 bytes
    return key.encode("utf-8", "surrogateescape")
