"""The file system of the members of a blob or collection: `blob://cats/1.jpg::s3://bucket/out.tar`."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Never

from blobpack.errors import BlobNotFoundError
from blobpack.integrations.fsspec.file import BlobFile
from blobpack.integrations.fsspec.listed import ListedBlob, missing
from blobpack.integrations.fsspec.parts import Part, read_parts
from blobpack.integrations.fsspec.reads import read_each
from blobpack.integrations.fsspec.shared import shared_blob
from blobpack.integrations.fsspec.target import check_open_options, remote_options, target_url
from blobpack.model import OnError, check_choice, check_several
from blobpack.opening.open import open as open_reader
from blobpack.stores.access.remote import Access
from blobpack.stores.arguments import location_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from blobpack.integrations.fsspec.shared import OpenedBlob
    from blobpack.opening.reader import Reader
    from blobpack.stores.access.remote import RemoteOptions


# the parameters behind `fo`
NAMES = ("target_protocol", "target_options")


class BlobFileSystem(ListedBlob):
    """The members of a blob or collection as files, read-only, for pandas, Dask, PyArrow and all others that use fsspec.

    A path is the name of a member, as a tar tool extracts it: "./a.jpg" is the path `a.jpg`. If several members have one path,
    the last one counts. The blob is read by blobpack's own stores; fsspec's file system for its protocol is not used.
    The blob is opened at its first use, and all file systems of a process with the same arguments share it. A file system can be
    pickled: it is made again from its arguments.
    """

    def __init__(
        self,
        fo: str | os.PathLike[str],
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Prepare the file system; nothing is read yet.

        Args:
            fo: Path or URL of the blob, collection, folder, prefix or glob, as for blobpack.open. In a chained URL it is
                what follows "::".
            target_protocol: Protocol of the blob's URL, if fsspec has taken it off.
            target_options: Options for the blob's server. For S3: the names of S3Options, and s3fs's anon, key, secret, token,
                endpoint_url and client_kwargs. For HTTP: headers and bearer_token.
            options: index, stale, duplicates, allow, open_blobs, cache, cache_bytes and hedge of blobpack.open; an index is a
                path or URL. And options of all file systems, such as skip_instance_cache.

        Raises:
            PackageMissingError: fsspec is not installed.
            TypeError: an option does not exist, or has a wrong type.
            ValueError: a value is not one of its choices, or the URL has an unsupported scheme.
        """
        super().__init__(**options)
        url = target_url(fo, target_protocol)
        opening = check_open_options(options)
        remote = remote_options(url, target_options or {})
        access = Access.of("BlobFileSystem", remote)
        location = location_of("fo", url, prefix=True, access=access)
        if location.is_local:
            # the working folder may be another one at the first use
            url = os.path.abspath(location.path)  # noqa: PTH100 (keeps links)
        self._url = url
        key = repr((url, sorted(opening.items()), sorted((target_options or {}).items())))
        self._shared = shared_blob(key, partial(_open, url, opening, remote))

    def __reduce__(self) -> tuple[Any, ...]:
        # a process that unpickles it may have another working folder
        make, (kind, arguments, options) = super().__reduce__()
        given = dict(zip(NAMES, arguments[1:], strict=False))
        return make, (kind, (), {**options, **given, "fo": self._url})

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Read a file, or a part of it, spelled as a slice. A whole file is compared with its checksum."""
        opened = self._shared.opened()
        row = _row(opened, self._strip_protocol(path))
        if start is None and end is None:
            return opened.reader.read(row)
        return next(read_parts(opened.reader, [Part(row, start, end)]))

    def cat(
        self, path: Any, recursive: bool = False, on_error: OnError = "raise", **kwargs: Any
    ) -> Any:
        """Read files; for several paths, a folder or a pattern, a dict of them, read as one batch."""
        check_choice("on_error", on_error, OnError)
        paths = self.expand_path(path, recursive=recursive)
        # As in every file system of fsspec, the payload of one path is returned alone, and all others in a dict.
        if isinstance(path, str) and paths == [self._strip_protocol(path)]:
            return self.cat_file(paths[0], **kwargs)
        if recursive or not isinstance(path, list):
            # folders are among what a pattern matches
            paths = [each for each in paths if not self.isdir(each)]
        starts, ends = ([kwargs.get(name)] * len(paths) for name in ("start", "end"))
        read = self._read_each(paths, starts, ends, on_error)
        return {
            each: payload
            for each, payload in zip(paths, read, strict=True)
            if on_error == "return" or not isinstance(payload, Exception)
        }

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: OnError = "return",
        **kwargs: Any,
    ) -> list[bytes | Exception]:
        """Read parts of files as one batch. Ranges that lie near each other are fetched by one request, whatever max_gap is."""
        check_choice("on_error", on_error, OnError)
        check_several("paths", paths, "paths")
        firsts, lasts = (
            list(given) if isinstance(given, Iterable) else [given] * len(paths)
            for given in (starts, ends)
        )
        if not len(paths) == len(firsts) == len(lasts):
            raise ValueError(
                f"paths, starts and ends must be of one length, not {len(paths)}, {len(firsts)} and {len(lasts)}"
            )
        return list(self._read_each(paths, firsts, lasts, on_error))

    def _read_each(
        self,
        paths: Sequence[str],
        starts: Sequence[int | None],
        ends: Sequence[int | None],
        on_error: OnError,
    ) -> Iterator[bytes | Exception]:
        opened = self._shared.opened()
        stripped = [self._strip_protocol(path) for path in paths]
        parts: list[Part | Exception] = []
        for path, row, start, end in zip(
            stripped, opened.rows_of(stripped), starts, ends, strict=True
        ):
            # A missing file is found before anything is read.
            part = Part(row, start, end) if row >= 0 else _no_file(opened, path)
            if isinstance(part, Exception) and on_error == "raise":
                raise part
            parts.append(part)
        for payload in read_each(opened.reader, parts):
            if isinstance(payload, Exception) and on_error == "raise":
                raise payload
            yield payload

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BlobFile:
        if mode != "rb":
            raise _read_only()
        opened = self._shared.opened()
        row = _row(opened, path)
        member = opened.reader.index[row]
        # a file that is unpickled names its size
        kwargs.pop("size", None)
        return BlobFile(
            self,
            path,
            reader=opened.reader,
            row=row,
            size=member.offset_end - member.offset_start,
            block_size=block_size,
            cache_options=cache_options,
            **kwargs,
        )

    # This file system does not change a blob. Some of these methods do nothing in the base class, as if they had succeeded.

    def _refuse(self, *args: Any, **kwargs: Any) -> Never:
        """Raise an error, because the file system is read-only."""
        raise _read_only()

    mkdir = makedirs = rmdir = rm_file = _rm = cp_file = touch = pipe_file = put_file = _refuse


def _open(url: str, options: dict[str, Any], remote: RemoteOptions) -> Reader:
    try:
        return open_reader(url, **options, **remote)
    except BlobNotFoundError:
        # fsspec takes the "/" from the end of a prefix
        if url.endswith("/") or not location_of("fo", url).has_key:
            raise
        try:
            return open_reader(f"{url}/", **options, **remote)
        except BlobNotFoundError:
            pass
        raise


def _row(opened: OpenedBlob, path: str) -> int:
    row = opened.row_of(path)
    if row < 0:
        raise _no_file(opened, path)
    return row


def _no_file(opened: OpenedBlob, path: str) -> Exception:
    """Return the error for a path that is not that of a file."""
    if opened.paths.is_folder(path):
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return missing(opened, path)


def _read_only() -> io.UnsupportedOperation:
    return io.UnsupportedOperation(
        "a blob is read-only here: blobpack.append adds members, and blobpack.subset leaves some out"
    )
