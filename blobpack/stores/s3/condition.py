"""Conditions on what is at a key when an upload to it ends: one version, nothing, or whatever is there.

S3 checks it with If-Match and If-None-Match (Amazon S3 User Guide, "Conditional writes"). Ceph RGW accepts these
headers on CompleteMultipartUpload and ignores them. So an upload in several parts also looks at the object right
before, and one that replaces a version lets no other upload to the key be under way.
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

ALONE_TIMEOUT_S = 30.0  # an upload that gives way is noticed when the part it is at ends
ALONE_POLL_S = 0.2


class Condition:
    """A condition on what is at a key when an upload to it ends.

    Attributes:
        arguments: The condition as PutObject and CompleteMultipartUpload take it.
    """

    def __init__(self, target: ObjectKey, *, replaces: str | None, new: bool) -> None:
        """Set a condition.

        Args:
            target: The key.
            replaces: The ETag of the object that must be there; None: any, or none.
            new: There must be no object.
        """
        self._target = target
        self._replaces = replaces
        self.arguments: dict[str, str] = {}
        if replaces:
            self.arguments = {"IfMatch": replaces}
        elif new:
            self.arguments = {"IfNoneMatch": "*"}

    def unmet(self) -> BlobChangedError:
        """Return the error that describes what it means that the condition is not met."""
        url = self._target.url
        if self._replaces:
            return BlobChangedError(
                f"{url} was changed meanwhile: it is not {self._replaces} any more, and stays as it is"
            )
        return BlobChangedError(f"{url} is there already, and stays as it is")

    def check(self, upload_id: str) -> None:
        """Check the condition right before an upload is completed.

        Of two uploads that replace a version, both begin before they look. So at least one of them sees the other
        here, or what the other has made of the object: never do both go on. The later one gives up, and the
        earlier one waits for that.

        Raises:
            BlobChangedError: it is not met; or another upload was first, or does not end.
        """
        if self._replaces:
            self._wait_until_alone(upload_id)
        # also before S3 checks it by itself: where S3 ignores it, this is all there is
        if self.arguments:
            self._check_object()

    def check_first(self, upload_id: str) -> list[Unfinished]:
        """Return the other uploads to the key, all of which began later.

        Raises:
            BlobChangedError: one began earlier.
        """
        # in the order of S3's clock, then of ids: every uploader sees the same one first
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
            found = None  # right if there must be no object
        if found != self._replaces:
            raise self.unmet()

    def _not_alone(self, other: Unfinished) -> BlobChangedError:
        url = self._target.url
        return BlobChangedError(
            f"{url}: another upload to it is under way since {other.since:%Y-%m-%d %H:%M:%S} UTC "
            f"(upload {other.id}), so it stays as it is: try again; if that one was interrupted, "
            f"`blobpack uploads {shlex.quote(url)} --abort` throws it away"
        )
