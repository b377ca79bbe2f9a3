"""Requests of others that are sent on to S3 with this process's credentials, by boto3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from blobpack.errors import StorageError
from blobpack.stores.s3.client import client_of
from blobpack.stores.s3.refusals import described, harmless

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.stores.access.s3_options import S3Options

PIECE_BYTES = 1 << 20


class Relayed(NamedTuple):
    """An answer of S3, which may be an error.

    Attributes:
        status: Status of the answer.
        fields: Header fields, names in lower case.
        found: The answer as boto3 parsed it.
        code: S3's code of an error; "" if there is none.
        message: S3's message.
    """

    status: int
    fields: dict[str, str]
    found: dict[str, Any]
    code: str
    message: str

    def pieces(self) -> Iterator[bytes]:
        """Yield the body of a GetObject; the connection is given back at its end.

        Raises:
            StorageError: the body is cut.
        """
        body = self.found["Body"]
        try:
            while piece := body.read(PIECE_BYTES):
                yield piece
        except (BotoCoreError, HTTPClientError) as exc:
            raise StorageError(f"the answer of S3 was cut: {exc}") from exc
        finally:
            body.close()


def relay(options: S3Options, operation: str, **arguments: Any) -> Relayed:
    """Call an operation of boto3's S3 client, and return what S3 answered.

    Args:
        options: The account.
        operation: Name of the client's method, such as "get_object".
        arguments: Arguments of the method.

    Raises:
        StorageError: S3 could not be reached, or there are no credentials, or an argument is none that S3 knows.
    """
    try:
        found: dict[str, Any] = getattr(client_of(options), operation)(**arguments)
        error: dict[str, str] = {}
    except ClientError as exc:
        found, error = dict(exc.response), exc.response.get("Error", {})  # type: ignore[assignment]
    except BotoCoreError as exc:
        bucket = arguments.get("Bucket", "")
        raise StorageError(
            f"s3://{bucket}/{arguments.get('Key', '')}: can't {operation}: {described(exc)}"
        ) from harmless(exc)
    meta = found.get("ResponseMetadata", {})
    return Relayed(
        meta.get("HTTPStatusCode", 502),
        {name.lower(): value for name, value in meta.get("HTTPHeaders", {}).items()},
        found,
        error.get("Code") or "",
        error.get("Message") or "",
    )
