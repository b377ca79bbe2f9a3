"""Ranges and conditions of HTTP requests, as pure functions of header values.

Strategy: an ASGI server hands over header fields as pairs of bytes. Most requests for an image have none of the fields
that matter here. So `conditions_in` looks through the pairs once; if its result is empty, the answer is 200 with the whole
payload.

Source: RFC 9110, 13 "Conditional Requests" and 14 "Range Requests".
"""

from __future__ import annotations

import re
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Conditions = Mapping[bytes, bytes]

CONDITIONAL = frozenset(
    (
        b"range",
        b"if-range",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
    )
)
ONE_RANGE = re.compile(rb"bytes[ \t]*=[ \t,]*([0-9]*)-([0-9]*)[ \t,]*", re.IGNORECASE)
# an entity tag holds no quotes (RFC 9110, 8.8.3), and may hold commas
ENTITY_TAG = re.compile(rb'(?:W/)?"[^"]*"')
# int() refuses more than 4,300 digits, and a position of 19 lies beyond every payload
DIGITS_MAX = 19
# year 9999, the last that a date in a header can name
SECONDS_MAX = 253402300799


class Answer(NamedTuple):
    """The status of an answer, and the bytes of the payload that it holds.

    Attributes:
        status: 200 for the whole payload, 206 for a part, 304, 412 or 416.
        start: First byte of the part.
        end: Its end, half-open.
    """

    status: int
    start: int
    end: int


def conditions_in(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the fields that make a request conditional or ask for a range.

    A field that is sent several times is one list of values (RFC 9110, 5.3).

    Args:
        headers: Names, in lower case, and values.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in CONDITIONAL:
            found[name] = found[name] + b", " + value if name in found else value
    return found


def answer_to(conditions: Conditions, size: int, etag: bytes, modified_s: int | None) -> Answer:
    """Evaluate a GET or HEAD request's conditions and range, in the order of RFC 9110, 13.2.2.

    Args:
        conditions: What `conditions_in` returned.
        size: Size of the payload in bytes.
        etag: The payload's strong entity tag, with its quotes.
        modified_s: Time of its last change, in seconds since 1970 UTC; None if it is not known.
    """
    if not conditions:
        return Answer(200, 0, size)
    status = _precondition(conditions, etag, modified_s)
    if status != 200:
        return Answer(status, 0, 0)
    asked = conditions.get(b"range")
    if asked is None or not _is_range_wanted(conditions.get(b"if-range"), etag, modified_s):
        return Answer(200, 0, size)
    found = from_http_range(asked, size)
    if found is None:
        return Answer(200, 0, size)
    start, end = found
    return Answer(206, start, end) if start < end else Answer(416, 0, 0)


def _precondition(conditions: Conditions, etag: bytes, modified_s: int | None) -> int:
    """Return 412 or 304 if a condition fails, else 200."""
    if (tags := conditions.get(b"if-match")) is not None:
        if not is_match(tags, etag, weak=False):
            return 412
    elif (date := conditions.get(b"if-unmodified-since")) is not None:
        limit_s = seconds_of(date)
        if limit_s is not None and modified_s is not None and modified_s > limit_s:
            return 412
    if (tags := conditions.get(b"if-none-match")) is not None:
        return 304 if is_match(tags, etag, weak=True) else 200
    if (date := conditions.get(b"if-modified-since")) is not None:
        limit_s = seconds_of(date)
        if limit_s is not None and modified_s is not None and modified_s <= limit_s:
            return 304
    return 200


def is_match(tags: bytes, etag: bytes, *, weak: bool) -> bool:
    """Return whether a list of entity tags, or `*`, matches a strong entity tag.

    Args:
        tags: The value of If-Match or If-None-Match.
        etag: The payload's strong entity tag, with its quotes.
        weak: Also match weak tags, as If-None-Match does; If-Match does not (RFC 9110, 8.8.3.2).
    """
    if tags.strip() == b"*":
        return True
    return any(
        tag == etag or (weak and tag.removeprefix(b"W/") == etag)
        for tag in ENTITY_TAG.findall(tags)
    )


def _is_range_wanted(if_range: bytes | None, etag: bytes, modified_s: int | None) -> bool:
    """Return whether the Range field counts: without If-Range, or if its strong tag or exact date fits."""
    if if_range is None:
        return True
    value = if_range.strip()
    if value.startswith((b'"', b"W/")):
        return value == etag
    return modified_s is not None and seconds_of(value) == modified_s


def from_http_range(value: bytes, size: int) -> tuple[int, int] | None:
    """Return the half-open range that a Range field asks for, cut to the payload.

    Args:
        value: The field's value.
        size: Size of the payload in bytes.

    Returns:
        start, end; an empty range if no byte of the payload lies in what is asked for. None if the field is to be
        ignored: it is malformed, has another unit, or asks for several ranges. A server may answer any Range with the
        whole payload (RFC 9110, 14.2), and S3, too, does so for several ranges.
    """
    asked = ONE_RANGE.fullmatch(value.strip())
    if asked is None:
        return None
    first, last = asked.groups()
    if not first:
        # the last bytes; "bytes=-" asks for nothing, and is malformed
        return (max(0, size - _number(last)), size) if last else None
    start = _number(first)
    if not last:
        return min(start, size), size
    end = _number(last) + 1
    # bytes=5-2 is malformed, and not out of the payload (RFC 9110, 14.1.1)
    return (min(start, size), min(end, size)) if start < end else None


def _number(digits: bytes) -> int:
    digits = digits.lstrip(b"0") or b"0"
    return int(digits) if len(digits) <= DIGITS_MAX else 10**DIGITS_MAX


def content_range(start: int, end: int, size: int) -> bytes:
    """Return the value of Content-Range for a half-open part of a payload (RFC 9110, 14.4)."""
    return b"bytes %d-%d/%d" % (start, end - 1, size)


def http_date(seconds: int) -> bytes:
    """Return a time as HTTP writes it (RFC 9110, 5.6.7).

    Args:
        seconds: Seconds since 1970 UTC. A tar's header may hold any number; years that a date can't name are cut.
    """
    return formatdate(min(max(seconds, 0), SECONDS_MAX), usegmt=True).encode()


def seconds_of(date: bytes) -> int | None:
    """Return the seconds since 1970 UTC of an HTTP date; None if it is malformed, which counts as if it was not sent."""
    try:
        return int(parsedate_to_datetime(date.decode("latin-1")).timestamp())
    # OverflowError: a year 0, say
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
