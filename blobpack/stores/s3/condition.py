"""Conditions on the object at a key when an upload to the key ends: one version, no object, or any.

S3 checks them by If-Match and If-None-Match (Amazon S3 User Guide, "Conditional writes"). Ceph RGW accepts these headers
on CompleteMultipartUpload and ignores them. So an upload in several parts also looks at the object right before it is
completed, and an upload that replaces a version tolerates no other upload to the key.
"""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, BlobNotFoundError
from blobpack.stores.s3.unfinished import uploads_to

if TYPE_CHECKING:
    from blobpack.stores.s3.bucket import ObjectKey
    from blobpack.stores.s3.unfinished import Unfinished

# An upload that gives up aborts only when the parts that it is sending have ended. An upload whose process was killed
# never ends, so the wait has a limit.
ALONE_TIMEOUT_S = 30.0
ALONE_POLL_S = 0.2


class Condition:
    """A condition on the object at a key when an upload to the key ends.

    Attributes:
        arguments: The condition as arguments of PutObject and CompleteMultipartUpload.
    """

    def __init__(self, target: ObjectKey, *, replaces: str | None, new: bool) -> None:
        """Set a condition.

        Args:
            target: The key.
            replaces: ETag of the object that must be at the key; None: any object, or none.
            new: There must be no object at the key.
        """
        self._target = target
        self._replaces = replaces
        self.arguments: dict[str, str] = {}
        if replaces:
            self.arguments = {"IfMatch": replaces}
        elif new:
            self.arguments = {"IfNoneMatch": "*"}

    def unmet(self) -> BlobChangedError:
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
        # Also if S3 will check the condition by itself: on Ceph RGW, which ignores it, there is no other check.
        if self.arguments:
            self._check_object()

    def check_first(self, upload_id: str) -> list[Unfinished]:
        """Return the other uploads to the key, all of which began later.

        Raises:
            BlobChangedError: another upload began earlier.
        """
        # Sorted by S3's clock, then by id, so that all uploaders agree which of them is the first.
        uploads = uploads_to(self._target)
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
        if found != self._replaces:
            raise self.unmet()

    def _not_alone(self, other: Unfinished) -> BlobChangedError:
        url = self._target.url
        return BlobChangedError(
            f"{url}: another upload to it has been under way since {other.since:%Y-%m-%d %H:%M:%S} UTC "
            f"(upload {other.id}), so the object was not changed; try again; if that one was interrupted, "
            f"`blobpack uploads {shlex.quote(url)} --abort` deletes its parts"
        )
