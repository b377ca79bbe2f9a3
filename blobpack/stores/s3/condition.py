"""Conditions on the object at a key when an upload to the key ends: one version, no object, or any.

S3 checks them by If-Match and If-None-Match (Amazon S3 User Guide, "Conditional writes"). Ceph RGW accepts these headers
on CompleteMultipartUpload and ignores them; Swift and Backblaze B2 refuse them with 501. So an upload in several parts
also looks at the object right before it is completed, and an upload that replaces a version tolerates no other upload to
the key, if the server can list uploads.
"""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, TypeVar

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.http.etag import differ, is_strong
from blobpack.stores.s3.answers import CONFLICT, FORBIDDEN, NOT_IMPLEMENTED, is_unlisted
from blobpack.stores.s3.unfinished import uploads_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.stores.s3.bucket import ObjectKey
    from blobpack.stores.s3.unfinished import Unfinished

Answer = TypeVar("Answer")

# An upload that gives up aborts only when the parts that it is sending have ended. An upload whose process was killed
# never ends, so the wait has a limit.
ALONE_TIMEOUT_S = 30.0
ALONE_POLL_S = 0.2


class Condition:
    """A condition on the object at a key when an upload to the key ends."""

    def __init__(self, target: ObjectKey, *, replaces: str | None, new: bool) -> None:
        """Set a condition.

        Args:
            target: The key.
            replaces: ETag of the object that must be at the key; None: any object, or none.
            new: There must be no object at the key.

        Raises:
            StorageError: the version to replace has no ETag.
        """
        if replaces == "":
            raise StorageError(
                f"{target.url}: can't be changed: the server sends no ETag, so what another process writes meanwhile "
                f"would be lost; pack a new blob instead"
            )
        self._target = target
        self._replaces = replaces
        self._new = new
        # The condition as arguments of PutObject and CompleteMultipartUpload. A weak ETag would never match.
        self._arguments: dict[str, str] = {}
        if replaces and is_strong(replaces):
            self._arguments = {"IfMatch": replaces}
        elif new:
            self._arguments = {"IfNoneMatch": "*"}

    def guard(self, send: Callable[[dict[str, str]], Answer]) -> Answer:
        """Send the request that makes the object, and have the server check the condition, if it can.

        Args:
            send: Sends the request with these arguments more.

        Raises:
            BlobChangedError: the condition is not met.
            StorageError: S3 refused or could not be reached.
        """
        try:
            return send(self._arguments)
        except BlobChangedError as exc:
            raise self._unmet() from exc
        except StorageError as exc:
            # ConditionalRequestConflict: the object was written or deleted while S3 compared it with the condition.
            if self._arguments and exc.status == CONFLICT:
                raise BlobChangedError(
                    f"{self._target.url}: another process changed it at the same moment; it was not replaced; try again"
                ) from exc
            if not self._arguments or exc.status != NOT_IMPLEMENTED:
                raise
        # Another process may write between the two requests, which no server without conditions can prevent.
        self._check_object()
        return send({})

    def _unmet(self) -> BlobChangedError:
        """Return the error for a condition that is not met."""
        url = self._target.url
        if self._replaces:
            return BlobChangedError(
                f"{url} was changed meanwhile: its ETag is no longer {self._replaces}; it was not replaced"
            )
        return BlobChangedError(f"{url} exists already; it was not replaced")

    def check(self, upload_id: str) -> None:
        """Check the condition right before an upload is completed.

        Two uploads that replace the same version both begin before they look. So at least one of them sees the other
        here, or sees the object that the other has completed, and they never both go on. The later upload gives up, and
        the earlier one waits for that.

        Raises:
            BlobChangedError: the condition is not met, another upload was first, or another upload does not end.
        """
        if self._replaces:
            self._wait_until_alone(upload_id)
        self.look()

    def look(self) -> None:
        """Check the condition right before the request that makes the object.

        This is done even if the server checks it, too, because some servers ignore it: Ceph RGW for objects of several parts;
        nanio, s3rver and rclone's server for all objects.

        Raises:
            BlobChangedError: the condition is not met.
        """
        if self._replaces or self._new:
            self._check_object()

    def check_first(self, upload_id: str) -> list[Unfinished]:
        """Return the other uploads to the key, all of which began later; none if the server can't list uploads.

        Raises:
            BlobChangedError: another upload began earlier.
        """
        # Sorted by S3's clock, then by id, so that all uploaders agree which of them is the first.
        try:
            uploads = uploads_to(self._target)
        except StorageError as exc:
            if not is_unlisted(exc):
                raise
            return []
        if uploads and uploads[0].id != upload_id:
            raise self._not_alone(uploads[0])
        return uploads[1:]

    def _wait_until_alone(self, upload_id: str) -> None:
        deadline = time.monotonic() + ALONE_TIMEOUT_S
        while others := self.check_first(upload_id):
            if time.monotonic() > deadline:
                raise self._not_alone(others[0])
            time.sleep(ALONE_POLL_S)

    def _check_object(self) -> None:
        try:
            found = self._target.head(what="look at the object")["ETag"]
        except BlobNotFoundError:
            # For a new object, _replaces is None, too.
            found = None
        except StorageError as exc:
            # Without the right to list, a missing object looks so. Then only the server's own check is left.
            if self._new and exc.status == FORBIDDEN:
                return
            raise
        is_met = found is not None and not differ(found, self._replaces or "")
        if is_met is not bool(self._replaces):
            raise self._unmet()

    def _not_alone(self, other: Unfinished) -> BlobChangedError:
        url = self._target.url
        return BlobChangedError(
            f"{url}: another upload to it has been under way since {other.since:%Y-%m-%d %H:%M:%S} UTC "
            f"(upload {other.id}), so the object was not changed; try again; if that one was interrupted, "
            f"`blobpack uploads {shlex.quote(url)} --abort` deletes its parts"
        )
