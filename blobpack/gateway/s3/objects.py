"""GetObject and HeadObject: the answer for one member."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, NamedTuple

from blobpack.gateway.answers import media_type_of, type_fields
from blobpack.gateway.http_range import answer_to, conditions_in, content_range, http_date
from blobpack.gateway.s3.errors import S3Error, not_implemented

if TYPE_CHECKING:
    from blobpack.gateway.answers import Fields
    from blobpack.gateway.http_range import Answer
    from blobpack.gateway.s3.request import S3Request
    from blobpack.gateway.served.blob import ServedMember

# S3 API Reference, GetObject: the parameter and the field that it sets
OVERRIDES = {
    "response-cache-control": b"cache-control",
    "response-content-disposition": b"content-disposition",
    "response-content-encoding": b"content-encoding",
    "response-content-language": b"content-language",
    "response-content-type": b"content-type",
    "response-expires": b"expires",
}
# subresources of an object that are not supported here
SUBRESOURCES = frozenset(
    b"acl attributes legal-hold partNumber restore retention select tagging torrent uploadId uploads".split()
)


class ObjectAnswer(NamedTuple):
    """The answer to a request for an object.

    Attributes:
        answer: Status and range; 200, 206 or 304.
        fields: Header fields.
    """

    answer: Answer
    fields: Fields


def answer_object(
    request: S3Request, member: ServedMember, changed_s: int, *, is_signed: bool
) -> ObjectAnswer:
    """Evaluate a GetObject or HeadObject request.

    Args:
        request: The request.
        member: The member of its key.
        changed_s: Time of the member's last change, in seconds since 1970 UTC.
        is_signed: Whether the request is signed.

    Raises:
        S3Error: a condition fails, the range lies outside, or a parameter is not supported.
    """
    check_params(request)
    overrides = overrides_in(request, is_signed=is_signed)
    conditions = conditions_in(request.headers)
    answer = answer_to(conditions, member.size, member.etag, changed_s)
    if answer.status == 412:
        raise S3Error(
            "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"
        )
    if answer.status == 416:
        raise S3Error(
            "InvalidRange",
            "The requested range is not satisfiable",
            RangeRequested=conditions[b"range"].decode("latin-1"),
            ActualObjectSize=str(member.size),
        )
    fields = [(b"etag", member.etag), (b"last-modified", http_date(changed_s))]
    if answer.status == 304:
        return ObjectAnswer(answer, fields)
    fields += _payload_fields(request, member, answer, overrides)
    return ObjectAnswer(answer, fields)


def check_params(request: S3Request) -> None:
    """Check that a request asks only for what a member of a blob has.

    Raises:
        S3Error: the request asks for something else.
    """
    unknown = SUBRESOURCES & {name for name, _ in request.query}
    if unknown:
        raise not_implemented(min(unknown).decode())
    if request.param("versionId") not in (None, "", "null"):
        raise S3Error("NoSuchVersion", "The specified version does not exist.", Key=request.key)


def overrides_in(request: S3Request, *, is_signed: bool) -> dict[bytes, bytes]:
    """Return the header fields that a request sets for its answer.

    Raises:
        S3Error: the request is not signed, or a value can't stand in a header.
    """
    found = {}
    for param, field in OVERRIDES.items():
        value = request.param(param)
        if value is None:
            continue
        if not is_signed:
            raise S3Error(
                "InvalidRequest",
                "Request specific response headers cannot be used for anonymous GET requests.",
            )
        # with a line break in it, the client could add any header field
        if not value.isprintable():
            raise S3Error("InvalidArgument", f"{param} holds characters that a header can't hold")
        found[field] = value.encode("utf-8", "replace")
    return found


def _payload_fields(
    request: S3Request, member: ServedMember, answer: Answer, overrides: dict[bytes, bytes]
) -> Fields:
    media_type = (
        overrides.pop(b"content-type", b"").decode()
        or member.media_type
        or media_type_of(member.name)
    )
    fields = [
        *type_fields(media_type),
        (b"accept-ranges", b"bytes"),
        (b"content-length", b"%d" % (answer.end - answer.start)),
        *overrides.items(),
    ]
    if answer.status == 206:
        fields.append((b"content-range", content_range(answer.start, answer.end, member.size)))
    # for a range, S3 sends no checksum either: it would be the checksum of other bytes
    elif request.header(b"x-amz-checksum-mode") == b"ENABLED" and member.crc32c is not None:
        digest = base64.b64encode(member.crc32c.to_bytes(4, "big"))
        fields += [(b"x-amz-checksum-crc32c", digest), (b"x-amz-checksum-type", b"FULL_OBJECT")]
    return fields
