"""The errors of S3, by the codes that clients know.

Source: Amazon S3 API Reference, "Error responses"; messages are those of S3 where clients or people look for them.
"""

from __future__ import annotations

STATUS_OF = {
    "AccessDenied": 403,
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidToken": 400,
    "MethodNotAllowed": 405,
    "MissingSecurityHeader": 400,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchVersion": 404,
    "NotImplemented": 501,
    "OperationAborted": 409,
    "PreconditionFailed": 412,
    "RequestHeaderSectionTooLarge": 400,
    "RequestTimeTooSkewed": 403,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "XAmzContentSHA256Mismatch": 400,
}


class S3Error(Exception):
    """An error in the form of S3's errors. The gateway sends it to the client; no caller of blobpack sees it.

    Attributes:
        code: S3's code, a key of STATUS_OF.
        message: What is wrong.
        details: Further elements of the answer, by name, such as BucketName.
        status: The status of the answer.
    """

    def __init__(self, code: str, message: str, **details: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.details = code, message, details
        self.status = STATUS_OF[code]


def not_implemented(what: str) -> S3Error:
    """Return the error for a function of S3 that this server does not have.

    Args:
        what: The parameter or field that asks for it.
    """
    return S3Error(
        "NotImplemented",
        "A header or query you provided requested a function that is not implemented.",
        Header=what,
    )
