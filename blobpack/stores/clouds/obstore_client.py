"""Objects in Google Cloud Storage and Azure Blob Storage, through obstore.

Strategy: obstore finds credentials as the libraries of the cloud do: environment, configuration files, the metadata
server. It signs, sends and retries. Reads name the ETag that was opened, and the answer's own ETag is compared, too.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import obstore
from obstore import exceptions

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.access.listed import Listed
from blobpack.stores.clouds.client import Client, Wanted, Writer
from blobpack.stores.clouds.condition import SIGN_IN_FAILED, send_on_condition
from blobpack.stores.http.etag import differ, is_strong, with_quotes
from blobpack.wording import setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from obstore import GetOptions, ObjectMeta, UpdateVersion
    from typing_extensions import Buffer

# Parts of an upload that are sent at the same time; memory holds as many.
PARTS_AT_ONCE = 4
# Keys that obstore changes or refuses (its class Path): empty parts, "." and "..", control characters. Azure takes a
# backslash for a slash.
ODD_KEY = re.compile(r"(?:\A|/)(?:\.{1,2})?(?:/|\Z)|[\x00-\x1f\x7f\\]")
# the status in a message of obstore, and the code and message in a body of Azure or Google
STATUS = re.compile(r"status code: (\d{3})")
CODE = re.compile(r"<Code>([^<]*)</Code>\s*(?:<Message>([^<]*)</Message>)?")
NOT_FOUND, NOT_SATISFIABLE = 404, 416
# obstore ends a listing at a key that it does not know
INVALID = "invalid path"
WAY_OUT = "; obstore, which sends the requests, lists no prefix with such a key: rename that object, or pack a manifest"


class ObstoreClient(Client):
    """Requests about one bucket or container through obstore."""

    def __init__(self, root: str, store: Any, new_store_once: Callable[[], Any]) -> None:
        """Wrap a store of obstore.

        Args:
            root: URL of the bucket or container, with "/" at its end.
            store: The store.
            new_store_once: Makes a store that sends each request once.
        """
        self.root = root
        self._store = store
        self._new_store_once = new_store_once
        self._has_suffixes = True

    def head(self, key: str) -> Listed:
        """Return size and version; see Client."""
        with self._translated(key, "look at the object"):
            return _listed(obstore.head(self._store, key))

    def read(self, key: str, start: int, end: int, version: str) -> bytes:
        """Read a range of one version; see Client."""
        what = f"read bytes {start} to {end}"
        options: dict[str, Any] = {"range": (start, end)}
        if is_strong(version):
            options["if_match"] = version
        with self._translated(key, what):
            answer = obstore.get(self._store, key, options=cast("GetOptions", options))
            # a server may ignore the condition
            found = with_quotes(answer.meta["e_tag"] or "")
            payload = bytes(answer.bytes())
        if differ(found, version):
            raise BlobChangedError(
                f"{self.url(key)}: can't {what}: its ETag is {found}, and was {version} when it was opened"
            )
        if answer.range != (start, end) or len(payload) != end - start:
            raise StorageError(f"{self.url(key)}: can't {what}: the server sent other bytes")
        return payload

    def read_tail(self, key: str, count: int) -> tuple[Listed, bytes]:
        """Read the last bytes; see Client."""
        if self._has_suffixes:
            try:
                with self._translated(key, "open"):
                    answer = obstore.get(self._store, key, options={"range": {"suffix": count}})
                    return _listed(answer.meta), bytes(answer.bytes())
            # Azure has no ranges of the last bytes; and an empty object has none
            except (exceptions.NotSupportedError, BlobChangedError) as exc:
                self._has_suffixes = isinstance(exc, BlobChangedError)
        return self.head(key), b""

    def properties(self, key: str) -> dict[str, str]:
        """Return Content-Type and metadata; see Client."""
        with self._translated(key, "read the properties"):
            found = obstore.get(self._store, key, options={"head": True}).attributes
        return {str(name): str(value) for name, value in found.items()}

    def list(self, prefix: str) -> list[Listed]:
        """List the objects below a prefix; see Client."""
        # obstore lists whole folders only
        folder = prefix[: prefix.rfind("/") + 1]
        with self._translated(prefix, "list objects", is_key=False):
            found = obstore.list(self._store, folder or None).collect()
        return [each for each in map(_listed, found) if each.key.startswith(prefix)]

    def delete(self, key: str) -> None:
        """Delete an object; see Client."""
        try:
            with self._translated(key, "delete"):
                obstore.delete(self._store, key)
        except BlobNotFoundError:
            pass

    def put(self, key: str, payload: Buffer, wanted: Wanted, about: Mapping[str, str]) -> str:
        """Write an object in one request; see Client."""
        payload = bytes(payload)
        if not (wanted.new or wanted.replaces):
            return self._put_once(self._store, key, payload, wanted, about)
        # obstore does not report that it has sent a request twice. If the first answer is lost, the second answer says that
        # the condition is not met. So obstore sends each request once, and send_on_condition repeats it.
        store = self._new_store_once()
        found = send_on_condition(
            self.url(key),
            lambda: self._put_once(store, key, payload, wanted, about),
            lambda: self._holds(key, payload),
        )
        return found or self.head(key).version

    def _put_once(
        self, store: Any, key: str, payload: bytes, wanted: Wanted, about: Mapping[str, str]
    ) -> str:
        with self._translated(key, "upload", wanted):
            # By default obstore sends a large payload in parts, for which it can't set a condition.
            result = obstore.put(
                store,
                key,
                payload,
                attributes=dict(about),
                mode=self._mode(key, wanted),
                use_multipart=False,
            )
        return with_quotes(result["e_tag"] or "") or self.head(key).version

    def _holds(self, key: str, payload: bytes) -> bool:
        """Return whether the object at a key has these bytes."""
        try:
            found = self.head(key)
            return found.size == len(payload) and (
                not payload or self.read(key, 0, found.size, found.version) == payload
            )
        except StorageError:
            return False

    def _mode(self, key: str, wanted: Wanted) -> Any:
        """Return the condition as obstore has it."""
        if wanted.new:
            return "create"
        if not wanted.replaces:
            return "overwrite"
        wanted.check(self, key)
        # Google compares generations and no ETags, so the generation that has this ETag is looked up
        found = obstore.head(self._store, key)
        if differ(with_quotes(found["e_tag"] or ""), wanted.replaces):
            raise wanted.unmet(self.url(key))
        mode: UpdateVersion = {"e_tag": found["e_tag"]}
        if found["version"]:
            mode["version"] = found["version"]
        return mode

    def open_writer(self, key: str, part_bytes: int, about: Mapping[str, str]) -> Writer:
        """Open an object for writing; see Client."""
        with self._translated(key, "upload"):
            file = obstore.open_writer(
                self._store,
                key,
                attributes=dict(about),
                buffer_size=part_bytes,
                max_concurrency=PARTS_AT_ONCE,
            )
        return ObstoreWriter(self, key, file)

    @contextmanager
    def _translated(
        self, key: str, what: str, wanted: Wanted | None = None, *, is_key: bool = True
    ) -> Iterator[None]:
        """Translate the errors of obstore in a block, after a check of the key."""
        url = self.url(key)
        if is_key and ODD_KEY.search(key):
            raise StorageError(
                f"{url}: can't {what}: obstore, which sends the requests, knows no key with empty parts, '.', '..', "
                "backslashes or control characters"
            )
        try:
            yield
        except (StorageError, exceptions.NotSupportedError):
            raise
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as exc:
            raise (
                wanted.unmet(url)
                if wanted
                else BlobChangedError(
                    f"{url}: can't {what}: the object is no longer the one that was opened"
                )
            ) from exc
        # obstore raises Python's own error for a missing object
        except FileNotFoundError as exc:
            raise BlobNotFoundError(f"{url}: no such bucket or key ({_described(exc)})") from exc
        except (exceptions.BaseError, OSError, ValueError) as exc:
            raise self._refused(url, what, exc) from exc

    def _refused(self, url: str, what: str, exc: BaseException) -> StorageError:
        if SIGN_IN_FAILED in str(exc):
            return StorageError(
                f"{url}: can't {what}: no credentials were found, neither here nor at the metadata server of the cloud; "
                f"public objects are read without credentials with {setting('anonymous', True)}"
            )
        status = STATUS.search(str(exc))
        if status and int(status[1]) == NOT_SATISFIABLE:
            return BlobChangedError(
                f"{url}: can't {what}: the object is no longer the one that was opened"
            )
        # of a listing, obstore raises the same error for each status
        if status and int(status[1]) == NOT_FOUND:
            return BlobNotFoundError(f"{url}: no such bucket or key ({_described(exc)})")
        way_out = "" if INVALID not in str(exc) else WAY_OUT
        error = StorageError(f"{url}: can't {what}: {_described(exc)}{way_out}")
        error.status = int(status[1]) if status else 0
        return error


class ObstoreWriter(Writer):
    """A multipart upload of obstore. If it is never closed, the object never appears."""

    def __init__(self, client: ObstoreClient, key: str, file: Any) -> None:
        self._client = client
        self._key = key
        self._file = file

    def write(self, part: Buffer, /) -> None:
        """Send a part; see Writer."""
        with self._client._translated(self._key, "upload"):
            self._file.write(part)

    def settle(self) -> None:
        """Send what is left; see Writer."""
        with self._client._translated(self._key, "upload"):
            self._file.flush()

    def commit(self) -> str:
        """Have the server join the parts; see Writer."""
        with self._client._translated(self._key, "upload"):
            self._file.close()
        return self._client.head(self._key).version

    def abandon(self) -> None:
        """Forget the upload; see Writer."""
        self._file = None


def _listed(found: ObjectMeta) -> Listed:
    return Listed(found["path"], found["size"], with_quotes(found["e_tag"] or ""))


def _described(exc: BaseException) -> str:
    """Return what the server or obstore says, without the details for its developers; it leaves out secrets."""
    text = str(exc)
    status, code = STATUS.search(text), CODE.search(text)
    if status is None:
        return text.partition("\n")[0].strip()
    if code is None:
        return f"HTTP {status[1]}"
    # the second line of Azure's message is the id of the request
    message = (code[2] or "").partition("\n")[0].strip()
    return f"HTTP {status[1]}, {code[1]}{f': {message}' if message else ''}"
