"""Where a new file goes, by its URL: beside the place it takes at the end, or up to S3 as it is written."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from blobpack.atomic import replacing
from blobpack.stores import is_local, local_name

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def writing(
    url: str | os.PathLike[str], *, expected_bytes: int | None = None, resume: bool = False
) -> Iterator[BinaryIO]:
    """Open a new file or object that takes url's place when the block ends without an error.

    Args:
        url: A path, file:// or s3:// URL. An object can only be written front to back.
        expected_bytes: What it will have at most, about; for S3.
        resume: Go on with an upload to S3 that was interrupted.

    Raises:
        StorageError: it can't be created, written or put in place.
    """
    if is_local(url):
        with replacing(local_name(url)) as file:
            yield file
        return
    from blobpack.stores.upload import uploading

    with uploading(os.fspath(url), expected_bytes=expected_bytes, resume=resume) as upload:
        yield cast("BinaryIO", upload)
