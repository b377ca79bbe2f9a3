"""The blobs that a server serves, by name: those of requests, and those that a command serves by default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.gateway.served.blob import ServedBlob
from blobpack.gateway.served.renewal import Renewal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from blobpack.gateway.served.blob import ServedMember
    from blobpack.gateway.served.renewal import Reopen
    from blobpack.opening.reader import Reader


class ServedBlobs:
    """The blobs that are served, by name.

    Attributes:
        renewal: Opens blobs anew that change.
    """

    def __init__(
        self,
        readers: Mapping[str, Reader],
        *,
        pinned: bool = False,
        reopen: Reopen | None = None,
    ) -> None:
        """Serve open blobs and collections. The caller closes them.

        Each blob is also served under `name@version`, which never leads to another version.

        Args:
            readers: Blobs and collections by the names under which they are served; a name may hold "/".
            pinned: The caller promises that no name will ever lead to other bytes, so that caches may keep them.
            reopen: Called with the name of a blob when its file has changed; opens the blob again. None: from then on,
                requests for members of a changed blob fail.

        Raises:
            ValueError: a name is empty, or begins or ends with "/".
            BlobpackError: an index can't be read.
        """
        for name in readers:
            if not name or name.strip("/") != name:
                raise ValueError(
                    f"a blob must have a name that begins and ends without '/', not {name!r}"
                )
        self._blobs = {
            name: ServedBlob(name, reader, pinned=pinned) for name, reader in readers.items()
        }
        self._resolved = _by_url_name(self._blobs.values())
        self._followers: list[Callable[[ServedBlob], object]] = []
        self.renewal = Renewal(self, reopen)
        # the most slashes first, so that the longest name wins
        self._depths = sorted({name.count("/") for name in self._resolved}, reverse=True)

    def __iter__(self) -> Iterator[ServedBlob]:
        return iter(self._blobs.values())

    def __len__(self) -> int:
        return len(self._blobs)

    def get(self, name: str) -> ServedBlob | None:
        """Return the blob of a name, which may hold its version; None if there is none."""
        return self._resolved.get(name)

    def follow(self, follower: Callable[[ServedBlob], object]) -> None:
        """Have a function called with each blob that replaces another one."""
        self._followers.append(follower)

    def replace(self, blob: ServedBlob) -> None:
        """Serve another blob in place of the one of its name. Any thread may call this."""
        self._blobs = {**self._blobs, blob.name: blob}
        self._resolved = _by_url_name(self._blobs.values())
        for follower in self._followers:
            follower(blob)

    def resolve(self, path: str) -> tuple[ServedBlob, str] | None:
        """Split `blob/member`, decoded, behind the longest name of a blob with which it begins.

        Returns:
            The blob, and the name of the member, which may not exist; None if no blob's name begins the path.
        """
        for depth in self._depths:
            end = -1
            for _ in range(depth + 1):
                end = path.find("/", end + 1)
                if end < 0:
                    break
            else:
                blob = self._resolved.get(path[:end])
                if blob is not None:
                    return blob, path[end + 1 :]
        return None

    def find(self, path: str) -> ServedMember | None:
        """Return the member that `blob/member`, decoded, names; None if there is none."""
        found = self.resolve(path)
        return found and found[0].find(found[1])


def _by_url_name(blobs: Iterable[ServedBlob]) -> dict[str, ServedBlob]:
    return {served.url_name: served for blob in blobs for served in (blob, blob.pinned())}
