"""Send conditional writes through obstore, when their answers may be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from obstore import exceptions

from blobpack.errors import StorageError
from blobpack.stores.http.retry import Fault, Retries, RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable

# how obstore's message begins if it finds no credentials; a status in it is that of the metadata server
SIGN_IN_FAILED = "Error performing token request"

Answer = TypeVar("Answer")

_budget = RetryBudget()


def send_on_condition(
    url: str, send: Callable[[], Answer], is_done: Callable[[], bool]
) -> Answer | None:
    """Send a request until the server answers it, or has carried it out.

    Args:
        url: URL of the object, for the log.
        send: Sends the request once.
        is_done: Returns whether the server has carried it out.

    Returns:
        The answer; None if it was lost.

    Raises:
        BlobChangedError: the condition is not met.
        StorageError: the server refused or could not be reached.
    """
    retries = Retries(f"{url}: upload", _budget, is_patient=False)
    was_lost = False
    while True:
        try:
            return send()
        except StorageError as exc:
            may_pass = _may_pass(exc)
            was_lost = was_lost or may_pass
            # also if the condition is not met: an earlier request may have made the object that is there
            if was_lost and is_done():
                return None
            if not may_pass or not retries.may_retry(Fault(str(exc), status=exc.status)):
                raise


def _may_pass(exc: StorageError) -> bool:
    """Return whether no answer came, or one that tells nothing about the object."""
    cause = exc.__cause__
    return isinstance(cause, exceptions.GenericError) and SIGN_IN_FAILED not in str(cause)
