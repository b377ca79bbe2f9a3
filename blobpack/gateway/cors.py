"""The rule of a bucket that lets pages of other origins read its blobs (CORS).

Strategy: a browser lets a script read only what the bucket's rules allow. The gallery needs GET and HEAD, and four headers
of the answers. The rules of others are never changed. Our rule has its own id, stands last, and replaces only an older
rule with this id. S3 applies the first rule that fits a request (Amazon S3 User Guide, "Elements of a CORS configuration").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from blobpack.errors import BlobNotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobpack.stores.location import Location

Rule = dict[str, Any]

RULE_ID = "blobpack"
METHODS = ("GET", "HEAD")
EXPOSED = ("ETag", "Content-Range", "Content-Length", "Accept-Ranges")
# browsers before 2023 ask whether they may send a Range
ALLOWED = ("Range",)
# time for which a browser may remember the answer, in seconds
MAX_AGE_S = 86_400
NOT_FOUND = 404


class BucketRules(NamedTuple):
    """The CORS rules of a bucket.

    Attributes:
        rules: All rules, ours last.
        is_set: Whether the bucket has exactly these rules now.
        in_the_way: Rules of others that fit the same origins first, and don't expose what is needed.
    """

    rules: list[Rule]
    is_set: bool
    in_the_way: list[Rule]


def read_rules(bucket: Location, origins: Sequence[str]) -> BucketRules:
    """Read the rules of a bucket, and add the one that allows these origins to read blobs.

    Raises:
        BlobNotFoundError: there is no such bucket.
        StorageError: S3 refused or could not be reached.
    """
    from blobpack.stores.s3.bucket import Bucket

    asked = Bucket.at(bucket)
    try:
        found = asked.ask("get_bucket_cors", what="read the CORS rules")["CORSRules"]
    except BlobNotFoundError:
        raise
    # a bucket without rules answers NoSuchCORSConfiguration
    except StorageError as exc:
        if exc.status != NOT_FOUND:
            raise
        found = []
    others = [rule for rule in found if rule.get("ID") != RULE_ID]
    rules = [*others, rule_for(origins)]
    return BucketRules(
        rules, rules == found, [rule for rule in others if _is_in_the_way(rule, origins)]
    )


def set_rules(bucket: Location, rules: Sequence[Rule]) -> None:
    """Set the rules of a bucket, in place of all its older rules.

    Raises:
        BlobNotFoundError: there is no such bucket.
        StorageError: S3 refused or could not be reached.
    """
    from blobpack.stores.s3.bucket import Bucket

    Bucket.at(bucket).ask(
        "put_bucket_cors",
        what="set the CORS rules",
        CORSConfiguration={"CORSRules": list(rules)},
    )


def rule_for(origins: Sequence[str]) -> Rule:
    """Return the rule that allows pages of these origins to read blobs."""
    return {
        "ID": RULE_ID,
        "AllowedOrigins": list(origins),
        "AllowedMethods": list(METHODS),
        "AllowedHeaders": list(ALLOWED),
        "ExposeHeaders": list(EXPOSED),
        "MaxAgeSeconds": MAX_AGE_S,
    }


def _is_in_the_way(rule: Rule, origins: Sequence[str]) -> bool:
    """Return whether S3 would apply this rule of others to requests of these origins, and so hide headers from them."""
    # a server that is not AWS may leave out anything
    fits = "GET" in rule.get("AllowedMethods", ()) and any(
        _covers(allowed, origin) for origin in origins for allowed in rule.get("AllowedOrigins", ())
    )
    exposed = {name.lower() for name in rule.get("ExposeHeaders", [])}
    return fits and not {name.lower() for name in EXPOSED} <= exposed


def _covers(allowed: str, origin: str) -> bool:
    """Return whether an origin of a rule, which may hold one `*`, covers an origin, or covers all origins (`*`)."""
    before, star, after = allowed.partition("*")
    if origin == "*" or not star:
        return origin in ("*", allowed)
    is_long = len(origin) >= len(before) + len(after)
    return is_long and origin.startswith(before) and origin.endswith(after)
