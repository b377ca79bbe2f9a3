"""The properties of an object in S3 besides its bytes, which an object that replaces it keeps.

Strategy: S3 can't change an object, and a new object has none of the properties of the one that it replaces: a public
object turns private, and an encrypted one may lie there unencrypted. So the properties are read before anything is
written, and are sent with the request that begins the new object. It never exists without them.

HeadObject returns most of them. Each one that can be set is copied, also those that S3 invents later: boto3's model of
both requests says which these are. Tags and access rights (ACL) have requests of their own.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from base64 import b64encode
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

from blobpack.checksum import crc32c
from blobpack.errors import BlobNotFoundError, StorageError
from blobpack.stores.access.uploads import upload_arguments
from blobpack.stores.http.ranged import if_match
from blobpack.stores.s3.client import NO_OPTIONS, client_of
from blobpack.wording import counted, setting

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from blobpack.model import Property
    from blobpack.stores.access.s3_options import S3Options
    from blobpack.stores.s3.bucket import ObjectKey

log = logging.getLogger(__name__)

# HeadObject returns them, but each new object has its own, or needs a key that S3 does not return.
NOT_COPIED = frozenset({"ChecksumType", "SSECustomerAlgorithm", "SSECustomerKeyMD5"})

# S3 adds CRC64NVME by itself where no other algorithm is asked for.
CHECKSUM_OF_S3 = "CRC64NVME"
CHECKSUMS: dict[str, Callable[[bytes | bytearray], bytes]] = {
    "CRC32": lambda part: zlib.crc32(part).to_bytes(4, "big"),
    "CRC32C": lambda part: crc32c(bytes(part)).to_bytes(4, "big"),
    "SHA1": lambda part: hashlib.sha1(part, usedforsecurity=False).digest(),
    "SHA256": lambda part: hashlib.sha256(part).digest(),
}

# permission in an ACL → argument that grants it; WRITE means nothing for an object (Amazon S3 User Guide, "ACL overview")
GRANTS = {
    "FULL_CONTROL": "GrantFullControl",
    "READ": "GrantRead",
    "READ_ACP": "GrantReadACP",
    "WRITE_ACP": "GrantWriteACP",
}

# Statuses with which servers answer requests that they do not implement. Their objects have no tags, or no ACL.
NOT_IMPLEMENTED = (404, 405, 501)

NAMES: dict[Property, str] = {
    "acl": "access rights (ACL)",
    "checksum": "checksums",
    "metadata": "metadata",
    "tags": "tags",
}
READ_RIGHTS: dict[Property, str] = {"acl": "s3:GetObjectAcl", "tags": "s3:GetObjectTagging"}
# argument of a new object → the right that it needs besides s3:PutObject
WRITE_RIGHTS = {
    "ACL": "s3:PutObjectAcl",
    "Grant": "s3:PutObjectAcl",
    "Tagging": "s3:PutObjectTagging",
    "ObjectLockLegalHold": "s3:PutObjectLegalHold",
    "ObjectLockMode": "s3:PutObjectRetention",
    "SSEKMSKeyId": "kms:GenerateDataKey and kms:Decrypt",
}


@dataclass(frozen=True, slots=True)
class Properties:
    """The properties of an object, for the request that begins a new one.

    Attributes:
        arguments: Arguments of CreateMultipartUpload and PutObject.
        algorithm: Algorithm of the checksums that S3 keeps of the object; "" for its own choice.
        checksum_type: "COMPOSITE", "FULL_OBJECT", or "".
        are_kept: Some of them are those of an object that the new one replaces.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    algorithm: str = ""
    checksum_type: str = ""
    are_kept: bool = False

    def of_upload(self) -> dict[str, Any]:
        """Return the arguments of CreateMultipartUpload."""
        if not self.algorithm:
            return self.arguments
        kind = {"ChecksumType": self.checksum_type} if self.checksum_type else {}
        return self.arguments | {"ChecksumAlgorithm": self.algorithm} | kind

    def checksum_of(self, body: bytes | bytearray) -> dict[str, str]:
        """Return the argument that holds the checksum of a part, or of a whole object."""
        if not self.algorithm:
            return {}
        digest = CHECKSUMS[self.algorithm](body)
        return {f"Checksum{self.algorithm}": b64encode(digest).decode()}

    def checksum_in(self, response: dict[str, Any]) -> dict[str, str]:
        """Return the checksum of a part from S3's response, for CompleteMultipartUpload."""
        name = f"Checksum{self.algorithm}"
        return {name: response[name]} if self.algorithm and name in response else {}

    def rights(self) -> str:
        """Return the rights that a new object with these properties needs besides s3:PutObject; "" for none."""
        needed = {
            right
            for begin, right in WRITE_RIGHTS.items()
            if any(name.startswith(begin) for name in self.arguments)
        }
        return ", ".join(sorted(needed))


NO_PROPERTIES = Properties()


def read_properties(target: ObjectKey, version: str, drop: Collection[Property] = ()) -> Properties:
    """Read the properties of an object that will be replaced.

    Args:
        target: The object.
        version: The ETag that it must have.
        drop: Properties that the new object may lack; they are not read.

    Raises:
        BlobChangedError: the object has another ETag.
        StorageError: a property can't be read, or can't be set on another object; the message names it, and the right
            that is missing.
    """
    condition = {"IfMatch": version} if if_match(version) else {}
    head = target.ask(
        "head_object", what="read its properties", ChecksumMode="ENABLED", **condition
    )
    which = {"VersionId": head["VersionId"]} if head.get("VersionId", "null") != "null" else {}
    arguments = _arguments_of(target, head, drop)
    if "tags" not in drop:
        tags = _ask(target, "tags", "get_object_tagging", which).get("TagSet", ())
        # PutObject takes tags as the query of a URL (Amazon S3 API Reference, x-amz-tagging)
        if tags:
            pairs = [(tag["Key"], tag["Value"]) for tag in tags]
            # quote: Ceph RGW keeps a "+" as it is, instead of a space
            arguments["Tagging"] = urlencode(pairs, quote_via=quote)
    if "acl" not in drop:
        arguments |= _grants_in(_ask(target, "acl", "get_object_acl", which))
    return Properties(arguments, *_checksum_of(target, head, drop), are_kept=True)


def with_given(kept: Properties, target: ObjectKey, media_type: str | None = None) -> Properties:
    """Return the properties of a new object: those that S3Options gives, and the rest of those that it keeps.

    Args:
        kept: Properties of the object that it replaces.
        target: The key.
        media_type: See upload_arguments.
    """
    options = target.bucket.options
    arguments = upload_arguments(options, target.key, kept.arguments, media_type)
    if options.checksum in (None, kept.algorithm):
        return replace(kept, arguments=arguments)
    return replace(kept, arguments=arguments, algorithm=options.checksum, checksum_type="")


def _arguments_of(
    target: ObjectKey, head: dict[str, Any], drop: Collection[Property]
) -> dict[str, Any]:
    """Return the properties that HeadObject returned and that a new object can be given."""
    found = {
        name: head[name]
        for name in copied_names(target.bucket.options)
        if head.get(name) not in (None, "OFF")
    }
    arguments = {name: _as_sent(value) for name, value in found.items()}
    if "metadata" in drop:
        arguments = {name: value for name, value in arguments.items() if value is not None}
        arguments.pop("Metadata", None)
    elif unsendable := [name for name, value in arguments.items() if value is None]:
        raise _lost(
            target, "metadata", f"{unsendable[0]} {found[unsendable[0]]!r}, which boto3 can't send"
        )
    elif head.get("MissingMeta"):
        # values that are no HTTP header, such as those set by SOAP
        raise _lost(
            target,
            "metadata",
            f"{counted(head['MissingMeta'], 'value')} of metadata that S3 does not return",
        )
    # boto3 returns a date that it can't parse only as ExpiresString, and sends only dates
    elif "Expires" not in arguments and (expires := head.get("ExpiresString")):
        raise _lost(target, "metadata", f"the Expires header {expires!r}, which is not a date")
    # S3 refuses a date in the past, and it holds nothing back any more
    until = arguments.get("ObjectLockRetainUntilDate")
    if until is not None and until <= datetime.now(UTC):
        del arguments["ObjectLockRetainUntilDate"]
        arguments.pop("ObjectLockMode", None)
    return arguments


def _as_sent(value: Any) -> Any:
    """Return a value as boto3 must be given it to send the bytes that came; None if it can't send them."""
    # boto3 decodes the values of headers as Latin-1, sends them as UTF-8, and sends metadata only if it is ASCII.
    if isinstance(value, dict):
        return value if all(text.isascii() for pair in value.items() for text in pair) else None
    if not isinstance(value, str):
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return None


def copied_names(options: S3Options = NO_OPTIONS) -> list[str]:
    """Return the properties that HeadObject returns and that a new object can be given."""
    model = client_of(options).meta.service_model
    returned: Any = model.operation_model("HeadObject").output_shape
    accepted: Any = model.operation_model("CreateMultipartUpload").input_shape
    return sorted(returned.members.keys() & accepted.members.keys() - NOT_COPIED)


def _checksum_of(
    target: ObjectKey, head: dict[str, Any], drop: Collection[Property]
) -> tuple[str, str]:
    names = [name.removeprefix("Checksum") for name in head if name.startswith("Checksum")]
    found = [name for name in names if name not in ("Type", CHECKSUM_OF_S3)]
    if not found or "checksum" in drop:
        return "", ""
    if found[0] not in CHECKSUMS:
        raise _lost(target, "checksum", f"{found[0]} checksums, which blobpack can't compute")
    return found[0], head.get("ChecksumType", "")


def _grants_in(acl: dict[str, Any]) -> dict[str, str]:
    """Return the arguments that grant what an ACL grants; none if only the owner has access, as by default."""
    granted: dict[str, list[str]] = {}
    for grant in acl.get("Grants", ()):
        name = GRANTS.get(grant["Permission"])
        if name is not None:
            granted.setdefault(name, []).append(_grantee(grant["Grantee"]))
    # A bucket whose ACLs are disabled (BucketOwnerEnforced) returns this one, and accepts no other.
    owner = acl.get("Owner", {}).get("ID", "")
    if granted == {"GrantFullControl": [f'id="{owner}"']}:
        return {}
    return {name: ", ".join(grantees) for name, grantees in granted.items()}


def _grantee(grantee: dict[str, str]) -> str:
    for name, key in (("id", "ID"), ("uri", "URI"), ("emailAddress", "EmailAddress")):
        if key in grantee:
            return f'{name}="{grantee[key]}"'
    return ""


def _ask(
    target: ObjectKey, kept: Property, operation: str, arguments: dict[str, str]
) -> dict[str, Any]:
    """Read tags or ACL; return {} if the server has none.

    Raises:
        StorageError: S3 refused, or could not be reached.
    """
    try:
        return target.ask(operation, what=f"read its {NAMES[kept]}", **arguments)
    except BlobNotFoundError:
        raise
    except StorageError as exc:
        if exc.status in NOT_IMPLEMENTED:
            return {}
        right = f"the right {READ_RIGHTS[kept]} may be missing; " if exc.status == 403 else ""
        raise StorageError(f"{exc}; {right}{_advice(kept)}") from exc


def _lost(target: ObjectKey, kept: Property, what: str) -> StorageError:
    return StorageError(f"{target.url}: it has {what}; {_advice(kept)}")


def _advice(kept: Property) -> str:
    return (
        f"the new object would lose its {NAMES[kept]}, so nothing was written: "
        f"{setting('drop', kept)} goes on without them"
    )


def check_kept(target: ObjectKey, properties: Properties) -> None:
    """Compare a complete object with its properties: set tags that the server ignored, and log what else is lost.

    Ceph RGW 16 ignores the tags of CreateMultipartUpload, for example.
    """
    # a media type alone is not worth a request
    arguments = properties.arguments
    if not arguments.keys() - {"ContentType"}:
        return
    try:
        head = target.head(what="read its properties")
        lost = [
            name
            for name in copied_names(target.bucket.options)
            if name in arguments
            if not _is_kept(name, _as_sent(head.get(name)), arguments[name])
        ]
        if lost:
            log.warning(
                "%s: the server has not kept these properties: %s", target.url, ", ".join(lost)
            )
        if "Tagging" in arguments:
            _set_tags(target, parse_qsl(arguments["Tagging"], keep_blank_values=True))
    except StorageError as exc:
        # The new object is complete, so the call has succeeded.
        log.warning("%s; the new object may lack properties of the old one", exc)


def _is_kept(name: str, found: Any, given: Any) -> bool:
    # S3 does not return its usual class, returns the key's ARN, which its id ends, and can't be asked for an alias
    if name == "StorageClass" and given == "STANDARD":
        return found in (None, given)
    if name == "SSEKMSKeyId":
        return "alias/" in given or str(found).endswith(given)
    return bool(found == given)


def _set_tags(target: ObjectKey, pairs: list[tuple[str, str]]) -> None:
    found = target.ask("get_object_tagging", what="read its tags").get("TagSet", [])
    if sorted((tag["Key"], tag["Value"]) for tag in found) != sorted(pairs):
        tags = [{"Key": key, "Value": value} for key, value in pairs]
        target.ask("put_object_tagging", what="set its tags", Tagging={"TagSet": tags})


def explain_refusal(exc: StorageError, properties: Properties) -> StorageError:
    """Return the error of a request that begins a new object, with the rights that its properties need."""
    rights = properties.rights()
    if exc.status != 403 or not rights:
        return exc
    text = f"{exc}; the properties of the new object need the permissions {rights}"
    if properties.are_kept:
        drops = f"{setting('drop', 'tags')} and {setting('drop', 'acl')}"
        text += f"; they are copied from the old object, unless {drops} leave them out"
    error = StorageError(text)
    error.status = exc.status
    return error
