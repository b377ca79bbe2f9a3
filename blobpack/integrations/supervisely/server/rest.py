"""Calls of the REST API: one POST for each, retried, with the server's own message in errors.

Strategy: a call fails for good if the server refuses it; after any other failure it is sent again, as long as Retries allows.
The caller of a call that must not run twice passes `recover`, which looks whether the call did its work although its
response was lost.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from blobpack.errors import StorageError
from blobpack.model import check_text, redacted
from blobpack.stores.http.retry import Fault, Retries, RetryBudget, SlowFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobpack.integrations.supervisely.documents import Document

CONNECT_TIMEOUT_S = 10.0
# a call with 10,000 images takes the server a while
READ_TIMEOUT_S = 300.0
# an attempt that took longer does not use up the time that is left for the next ones
SLOW_ATTEMPT_S = 10.0
# the server is overloaded, restarts, or a proxy before it does (RFC 9110, 15.6; RFC 6585, 4)
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
BAD_REQUEST = 400
# of a body that is no JSON
MESSAGE_CHARACTERS = 300


class Answer(NamedTuple):
    """The answer to a call.

    Attributes:
        status: HTTP status: 200 or 400.
        document: The JSON.
    """

    status: int
    document: Any


class Rest:
    """The REST API of one server, with the token of one user. Safe to share between threads.

    Attributes:
        address: Address of the server, such as https://app.supervisely.com.
    """

    def __init__(self, server: str, token: str, threads: int) -> None:
        """Set the server; nothing is sent yet.

        Raises:
            TypeError: an argument is no str.
            ValueError: the server is no http(s) address, or the token is empty.
        """
        check_text("server", server)
        check_text("token", token)
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"server must be an address, such as https://app.supervisely.com, not {redacted(server)!r}"
            )
        # a header can't hold the others (RFC 9110, 5.5)
        if not (token.isascii() and token.isprintable() and token.strip()):
            raise ValueError("token must be the API token of your account, and not empty")
        self.address = f"{parts.scheme}://{parts.netloc}"
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
        options: dict[str, Any] = {"maxsize": threads, "retries": False, "timeout": timeout}
        proxy = getproxies().get(parts.scheme)
        self._pool: urllib3.PoolManager = (
            urllib3.ProxyManager(proxy, **options)
            if proxy and not proxy_bypass(parts.hostname)
            else urllib3.PoolManager(**options)
        )
        # in no message and no repr: it is a password
        self._headers = {"x-api-key": token}
        self._budget = RetryBudget()

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def ask(
        self,
        method: str,
        fields: Document,
        *,
        recover: Callable[[], Any | None] | None = None,
    ) -> Any:
        """Make a call, and return the JSON of the response.

        Args:
            method: Name of the call, such as images.bulk.add.
            fields: The JSON of the request.
            recover: Called before the call is sent again: returns what the call would have returned, if it did its work;
                else None.

        Raises:
            StorageError: the server refuses the call, or can't be reached.
        """
        answer = self.ask_or_refused(method, fields, recover=recover)
        if answer.status == BAD_REQUEST:
            raise self.refused(method, answer)
        return answer.document

    def ask_or_refused(
        self,
        method: str,
        fields: Document,
        *,
        recover: Callable[[], Any | None] | None = None,
    ) -> Answer:
        """Make a call like `ask`; a refusal with status 400 is returned, and not raised."""
        body = json.dumps(fields).encode()
        retries = Retries(method, self._budget)
        while True:
            try:
                with self._sent(method, body, {"Content-Type": "application/json"}) as response:
                    data = response.read(decode_content=True)
                self._check(method, response, data)
                return Answer(response.status, _parsed(data))
            except Fault as fault:
                self._retry(method, retries, fault)
            if recover is not None and (found := recover()) is not None:
                return Answer(200, found)

    def pages(self, method: str, fields: Document) -> Iterator[Document]:
        """Yield all entities of a call that lists them page by page."""
        first = self.ask(method, fields)
        yield from first["entities"]
        # the SDK sends no number for the first page
        for page in range(2, first["pagesCount"] + 1):
            more = {"page": page, "per_page": first["perPage"]}
            yield from self.ask(method, {**fields, **more})["entities"]

    def send(
        self, method: str, query: dict[str, Any], body: Callable[[], Iterable[bytes]], size: int
    ) -> Any:
        """Send bytes, and return the JSON of the response.

        Args:
            method: Name of the call.
            query: Its arguments.
            body: Returns the bytes, from their start, for each attempt.
            size: Number of all bytes.

        Raises:
            StorageError: the server refuses the call, or can't be reached; or the bytes can't be read.
        """
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        retries = Retries(method, self._budget)
        while True:
            began = time.monotonic()
            try:
                with self._sent(f"{method}?{urlencode(query)}", body(), headers) as response:
                    data = response.read(decode_content=True)
                self._check(method, response, data)
                if response.status == BAD_REQUEST:
                    raise self._refused(method, response.status, _parsed(data))
                return _parsed(data)
            except Fault as fault:
                self._retry(method, retries, fault, began)

    @contextmanager
    def stream(
        self, method: str, fields: Document, start: int
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Make a call whose response is bytes, from a position on; yield the response, of status 200 or 206.

        There is one attempt; see `downloading`.

        Raises:
            Fault: the call may be sent again.
            StorageError: the server refuses the call.
        """
        headers = {"Content-Type": "application/json"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with self._sent(method, json.dumps(fields).encode(), headers) as response:
            if response.status not in (200, 206):
                data = response.read(decode_content=True)
                self._check(method, response, data)
                raise self._refused(method, response.status, _parsed_or_none(data))
            yield response

    def retries(self, method: str) -> Retries:
        """Return a count of attempts at a call."""
        return Retries(method, self._budget)

    def _retry(
        self, method: str, retries: Retries, fault: Fault, began: float | None = None
    ) -> None:
        """Wait until the next attempt; raise an error if there must be none."""
        if began is not None and time.monotonic() - began > SLOW_ATTEMPT_S:
            fault = SlowFault(str(fault), status=fault.status, retry_after_s=fault.retry_after_s)
        if not retries.may_retry(fault):
            raise self.failed(method, fault, retries.failed) from fault

    def failed(self, method: str, fault: Fault, attempts: int) -> StorageError:
        """Return the error for a call that failed each time."""
        error = StorageError(
            f"{self.address}: {method}: {fault}, after {attempts} attempt{'s' * (attempts > 1)}"
        )
        error.status = fault.status
        return error

    @contextmanager
    def _sent(
        self, call: str, body: bytes | Iterable[bytes], headers: dict[str, str]
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send a request, and yield its response; errors of the connection in the block are Faults."""
        try:
            response = self._pool.request(
                "POST",
                f"{self.address}/public/api/v3/{call}",
                body=body,
                headers={**self._headers, **headers},
                preload_content=False,
                # a redirected POST would be sent again without its body (RFC 9110, 15.4.2)
                redirect=False,
            )
            try:
                yield response
            except BaseException:
                # what is left of the response must not be read as the next one
                response.close()
                raise
            response.release_conn()
        except urllib3.exceptions.HTTPError as exc:
            raise Fault(_without_address(exc)) from exc

    def _check(self, method: str, response: urllib3.BaseHTTPResponse, data: bytes) -> None:
        """Check the status of a response; 200 and 400 are left to the caller."""
        status = response.status
        if status in (200, BAD_REQUEST):
            return
        if status in RETRIED_STATUSES:
            after = response.headers.get("Retry-After", "")
            raise Fault(
                _message(status, _parsed_or_none(data), data),
                status=status,
                retry_after_s=float(after) if after.isdigit() else 0.0,
            )
        if 300 <= status < 400:
            place = redacted(response.headers.get("Location", "another address"))
            raise StorageError(f"{self.address} redirects to {place}: give that server's address")
        raise self._refused(method, status, _parsed_or_none(data), data)

    def refused(self, method: str, answer: Answer) -> StorageError:
        """Return the error for a call that was refused."""
        return self._refused(method, answer.status, answer.document)

    def _refused(self, method: str, status: int, document: Any, data: bytes = b"") -> StorageError:
        error = StorageError(f"{self.address}: {method}: {_message(status, document, data)}")
        error.status = status
        return error


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    # not what was asked for: a proxy's page, say
    except ValueError as exc:
        raise Fault(f"the response is no JSON: {exc}") from exc


def _parsed_or_none(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _message(status: int, document: Any, data: bytes) -> str:
    """Return what the server says of an error."""
    said = []
    if isinstance(document, dict):
        details = document.get("details")
        parts = [document, *(details if isinstance(details, list) else [details])]
        for part in parts:
            if isinstance(part, dict):
                said += [part.get(key) for key in ("error", "message", "type")]
            elif isinstance(part, str):
                said.append(part)
    if not any(said):
        said = [data[:MESSAGE_CHARACTERS].decode("utf-8", "replace")]
    texts = dict.fromkeys(str(each) for each in said if each)
    return ": ".join([f"HTTP status {status}", *texts])


def _without_address(exc: urllib3.exceptions.HTTPError) -> str:
    """Return the message of an error of the connection, without the object that urllib3 puts before it."""
    return str(exc).rpartition(">: ")[2] or type(exc).__name__
