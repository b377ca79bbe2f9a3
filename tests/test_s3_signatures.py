"""Signatures that AWS documents and that botocore makes are accepted; whatever is changed afterwards is refused."""

from __future__ import annotations

import calendar
import datetime
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch
from urllib.parse import quote, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, strategies as st

from blobpack.gateway.s3.errors import S3Error
from blobpack.gateway.s3.request import S3Request
from blobpack.gateway.s3.signature_check import EMPTY_SHA256, authenticate

# AWS's own example, in all its documentation
ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # gitleaks:allow
SECRETS = {ACCESS_KEY: SECRET_KEY}
DAY = "20130524"
NOW = calendar.timegm((2013, 5, 24, 0, 0, 0))
KEYS = [
    "a.jpg",
    "a b+c",
    "x//y",
    "%41%2F%",
    "größe~1",
    "~*'(),;:@$!#?[]{}|\\^`\"<>",
    "/",
    "é\U0001f600",
]


def request(target: str, headers: dict[str, str], method: str = "GET") -> S3Request:
    path, _, query = target.partition("?")
    return S3Request.of_scope(
        {
            "method": method,
            "raw_path": path.encode(),
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )


def refused(request: S3Request, now_s: float = NOW, secrets=SECRETS) -> S3Error:
    with pytest.raises(S3Error) as caught:
        authenticate(request, secrets.get, now_s)
    return caught.value


def is_accepted(request: S3Request) -> bool:
    """Whether a request counts as signed: one without any signature is neither signed nor refused here."""
    try:
        return authenticate(request, SECRETS.get, NOW) is not None
    except S3Error:
        return False


class TestExamplesOfAWS:
    """AWS, "Authenticating Requests: Using the Authorization Header" and "Using Query Parameters"."""

    @pytest.mark.parametrize(
        ("method", "target", "headers", "signature"),
        [
            (
                "GET",
                "/test.txt",
                {"range": "bytes=0-9"},
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "PUT",
                "/test$file.text",
                {
                    "date": "Fri, 24 May 2013 00:00:00 GMT",
                    "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
                    "x-amz-storage-class": "REDUCED_REDUNDANCY",
                },
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                "GET",
                "/?lifecycle",
                {},
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "GET",
                "/?max-keys=2&prefix=J",
                {},
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ],
        ids=["GET object", "PUT object", "GET lifecycle", "list objects"],
    )
    def test_headers(self, method, target, headers, signature):
        headers = {
            "host": "examplebucket.s3.amazonaws.com",
            "x-amz-content-sha256": EMPTY_SHA256,
            "x-amz-date": "20130524T000000Z",
        } | headers
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{DAY}/us-east-1/s3/aws4_request,"
            f"SignedHeaders={';'.join(sorted(headers))},Signature={signature}"
        )
        assert authenticate(request(target, headers, method), SECRETS.get, NOW) == ACCESS_KEY

    def test_query(self):
        target = (
            "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
            f"&X-Amz-Credential={ACCESS_KEY}%2F{DAY}%2Fus-east-1%2Fs3%2Faws4_request"
            "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
            "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        )
        found = request(target, {"host": "examplebucket.s3.amazonaws.com"})
        assert authenticate(found, SECRETS.get, NOW) == ACCESS_KEY
        assert authenticate(found, SECRETS.get, NOW + 86400) == ACCESS_KEY
        late = refused(found, NOW + 86401)
        assert (late.code, late.message) == ("AccessDenied", "Request has expired")
        assert refused(found, NOW - 901).message == "Request is not yet valid"

    def test_older_query(self):
        """AWS, "Signing and authenticating REST requests"."""
        target = (
            f"/johnsmith/photos/puppy.jpg?AWSAccessKeyId={ACCESS_KEY}"
            "&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620"
        )
        found = request(target, {"host": "johnsmith.s3.us-west-1.amazonaws.com"})
        assert authenticate(found, SECRETS.get, 1175139620) == ACCESS_KEY
        assert refused(found, 1175139621).message == "Request has expired"


def signed(
    kind: str, url: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> S3Request:
    """Have botocore sign a request, and return it as the server gets it."""
    credentials = Credentials(ACCESS_KEY, SECRET_KEY)
    aws = AWSRequest(method, url, headers or {})
    if kind == "v4":
        signer = botocore.auth.S3SigV4Auth(credentials, "s3", "eu-central-1")
    elif kind == "v4 query":
        signer = botocore.auth.S3SigV4QueryAuth(credentials, "s3", "eu-central-1", expires=600)
    else:
        signer = botocore.auth.HmacV1QueryAuth(credentials, expires=600)
    with clock_at(NOW):
        signer.add_auth(aws)
    sent = aws.prepare()
    parts = urlsplit(sent.url)
    fields = {name: _text(value) for name, value in sent.headers.items()}
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return request(target, fields | {"host": parts.netloc}, method)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@contextmanager
def clock_at(seconds: int):
    """botocore signs for the time now; there is no other way to set it."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None)
    with (
        patch("botocore.auth.get_current_datetime", lambda *_, **__: moment),
        patch("botocore.auth.time.time", lambda: seconds),
    ):
        yield


KINDS = ["v4", "v4 query", "v2 query"]
URL = "http://127.0.0.1:9000"


class TestAsBotocoreSigns:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("key", KEYS)
    def test_every_key(self, kind, key):
        found = signed(kind, f"{URL}/bucket/{quote(key, safe='/~')}")
        assert authenticate(found, SECRETS.get, NOW) == ACCESS_KEY
        assert (found.bucket, found.key) == ("bucket", key)

    @pytest.mark.parametrize("kind", KINDS)
    @given(
        key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        value=st.text(st.characters(exclude_categories=["Cs"])),
    )
    def test_any_key_and_query(self, kind, key, value):
        query = f"response-content-type={quote(value, safe='')}" if value else "location"
        found = signed(kind, f"{URL}/bucket/{quote(key, safe='/~')}?{query}")
        assert authenticate(found, SECRETS.get, NOW) == ACCESS_KEY
        assert found.key == key

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_method_is_signed(self, kind, method):
        found = signed(kind, f"{URL}/bucket/a.jpg", method=method)
        assert authenticate(found, SECRETS.get, NOW) == ACCESS_KEY
        for other in {"GET", "HEAD", "PUT", "DELETE"} - {method}:
            assert refused(replaced(found, method=other)).code == "SignatureDoesNotMatch"

    def test_spaces_in_headers_are_folded(self):
        found = signed("v4", f"{URL}/bucket/a.jpg", {"x-amz-meta-a": "  a   b "})
        assert authenticate(found, SECRETS.get, NOW) == ACCESS_KEY

    def test_an_encoding_of_the_path_that_is_not_the_usual_one(self):
        found = signed("v4", f"{URL}/bucket/a~b%28c%29")
        assert (
            authenticate(replaced(found, raw_path=b"/bucket/a%7eb%28c)"), SECRETS.get, NOW)
            == ACCESS_KEY
        )

    def test_headers_of_boto3_in_an_older_query(self):
        found = signed("v2 query", f"{URL}/bucket/a.jpg", {"x-amz-checksum-mode": "ENABLED"})
        without = tuple(pair for pair in found.headers if pair[0] == b"host")
        assert authenticate(replaced(found, headers=without), SECRETS.get, NOW) == ACCESS_KEY


def replaced(found: S3Request, **changes: object) -> S3Request:
    return replace(found, **changes)


class TestChangedRequestsAreRefused:
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_character_of_the_target(self, kind):
        found = signed(kind, f"{URL}/bucket/a%20b/c.jpg?response-content-type=image%2Fpng")
        query = "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in found.query)
        target = f"{found.raw_path.decode()}?{query}"
        headers = {name.decode(): value.decode() for name, value in found.headers}
        assert authenticate(request(target, headers), SECRETS.get, NOW) == ACCESS_KEY
        for place in range(len(target)):
            other = "7" if target[place] != "7" else "8"
            assert not is_accepted(request(target[:place] + other + target[place + 1 :], headers))
            assert not is_accepted(request(target[:place] + target[place + 1 :], headers))

    def test_every_character_of_the_headers(self):
        found = signed(
            "v4", f"{URL}/bucket/a.jpg", {"x-amz-meta-a": "b", "content-type": "image/png"}
        )
        for number, (name, value) in enumerate(found.headers):
            for place in range(len(value)):
                other = b"7" if value[place : place + 1] != b"7" else b"8"
                pairs = list(found.headers)
                pairs[number] = name, value[:place] + other + value[place + 1 :]
                refused(replaced(found, headers=tuple(pairs)))
            without = found.headers[:number] + found.headers[number + 1 :]
            assert not is_accepted(replaced(found, headers=without))

    @pytest.mark.parametrize("kind", KINDS)
    def test_added_parameters_and_headers(self, kind):
        found = signed(kind, f"{URL}/bucket/a.jpg")
        refused(replaced(found, query=(*found.query, (b"versionId", b"1"))))
        refused(replaced(found, headers=(*found.headers, (b"x-amz-meta-a", b"b"))))
        # a range need not be signed
        ranged = replaced(found, headers=(*found.headers, (b"range", b"bytes=0-1")))
        assert authenticate(ranged, SECRETS.get, NOW) == ACCESS_KEY

    @pytest.mark.parametrize("kind", KINDS)
    def test_another_key_pair(self, kind):
        found = signed(kind, f"{URL}/bucket/a.jpg")
        assert (
            refused(found, secrets={ACCESS_KEY: SECRET_KEY + "x"}).code == "SignatureDoesNotMatch"
        )
        assert refused(found, secrets={"other": SECRET_KEY}).code == "InvalidAccessKeyId"
        assert refused(found, secrets={}).code == "InvalidAccessKeyId"

    def test_the_secret_is_never_in_the_answer(self):
        for kind in KINDS:
            error = refused(replaced(signed(kind, f"{URL}/bucket/a.jpg"), method="HEAD"))
            assert SECRET_KEY not in str([error, error.details])

    @pytest.mark.parametrize("skew_s", [-901, 901, -(10**6), 10**6])
    def test_clocks_that_differ(self, skew_s):
        found = signed("v4", f"{URL}/bucket/a.jpg")
        assert refused(found, NOW + skew_s).code == "RequestTimeTooSkewed"

    @pytest.mark.parametrize("skew_s", [-900, 900])
    def test_clocks_that_differ_little(self, skew_s):
        assert (
            authenticate(signed("v4", f"{URL}/bucket/a.jpg"), SECRETS.get, NOW + skew_s)
            == ACCESS_KEY
        )

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_session_token(self, kind):
        found = signed(kind, f"{URL}/bucket/a.jpg", {"x-amz-security-token": "token"})
        assert refused(found).code == "InvalidToken"
        assert (
            refused(replaced(found, query=(*found.query, (b"X-Amz-Security-Token", b"t")))).code
            == "InvalidToken"
        )

    def test_two_signatures(self):
        header = signed("v4", f"{URL}/bucket/a.jpg")
        query = signed("v4 query", f"{URL}/bucket/a.jpg")
        older = signed("v2 query", f"{URL}/bucket/a.jpg")
        for both in [
            replaced(header, query=query.query),
            replaced(header, query=older.query),
            replaced(query, query=(*query.query, *older.query)),
        ]:
            assert refused(both).code == "InvalidArgument"
        twice = replaced(query, query=(*query.query, *query.query))
        assert refused(twice).code == "SignatureDoesNotMatch"

    def test_a_body_that_was_signed(self):
        found = signed("v4", f"{URL}/bucket/a.jpg")
        error = resigned(found, b"44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072")
        assert error.code == "XAmzContentSHA256Mismatch"


def resigned(found: S3Request, digest: bytes) -> S3Error:
    """Sign a GET for another body."""
    signer = botocore.auth.S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "eu-central-1")
    signer.payload = lambda _: digest.decode()
    aws = AWSRequest("GET", URL + found.raw_path.decode())
    with clock_at(NOW):
        signer.add_auth(aws)
    headers = {name: _text(value) for name, value in aws.prepare().headers.items()}
    return refused(request(found.raw_path.decode(), headers | {"host": "127.0.0.1:9000"}))


AUTHORIZATION = f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{DAY}/us-east-1/s3/aws4_request, SignedHeaders=host, Signature={'0' * 64}"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("", "InvalidRequest"),
        ("Bearer x", "InvalidRequest"),
        (f"AWS {ACCESS_KEY}:signature", "InvalidRequest"),
        ("AWS4-HMAC-SHA256", "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 " + "," * 99, "AuthorizationHeaderMalformed"),
        (AUTHORIZATION.replace("0000", "00"), "AuthorizationHeaderMalformed"),
        (AUTHORIZATION.replace("/s3/", "/ec2/"), "AuthorizationHeaderMalformed"),
        (AUTHORIZATION.replace("aws4_request", "aws4"), "AuthorizationHeaderMalformed"),
        (AUTHORIZATION.replace(DAY, "20130525"), "AuthorizationHeaderMalformed"),
        (AUTHORIZATION.replace("SignedHeaders=host", "SignedHeaders="), "AccessDenied"),
        (AUTHORIZATION.replace("SignedHeaders=host", "SignedHeaders=ho\udcffst"), "AccessDenied"),
        (AUTHORIZATION, "AccessDenied"),  # x-amz-date is not signed
        (
            AUTHORIZATION.replace("=host", "=host;x-amz-content-sha256;x-amz-date"),
            "SignatureDoesNotMatch",
        ),
        (
            AUTHORIZATION.replace("=host", "=host;gone;x-amz-content-sha256;x-amz-date"),
            "AccessDenied",
        ),
    ],
)
def test_malformed_authorization(authorization, code):
    headers = [
        (b"host", b"h"),
        (b"x-amz-date", b"20130524T000000Z"),
        (b"x-amz-content-sha256", EMPTY_SHA256.encode()),
        (b"authorization", authorization.encode("utf-8", "surrogateescape")),
    ]
    found = S3Request("GET", b"/bucket/a.jpg", "bucket", "a.jpg", (), tuple(headers))
    assert refused(found).code == code


@pytest.mark.parametrize(
    "date", ["", "20130524", "20131324T000000Z", "2013-05-24", "20130524T000000Z "]
)
def test_malformed_dates(date):
    headers = {
        "host": "h",
        "x-amz-date": date,
        "x-amz-content-sha256": EMPTY_SHA256,
        "authorization": AUTHORIZATION,
    }
    assert refused(request("/b/k", headers)).code == "AccessDenied"


@pytest.mark.parametrize("expires", ["", "0", "-1", "604801", "9" * 5000, "1.5", "١"])
def test_malformed_expiry(expires):
    found = signed("v4 query", f"{URL}/bucket/a.jpg")
    query = tuple(
        (name, expires.encode() if name == b"X-Amz-Expires" else value)
        for name, value in found.query
    )
    assert refused(replaced(found, query=query)).code == "AuthorizationQueryParametersError"
    found = signed("v2 query", f"{URL}/bucket/a.jpg")
    query = tuple(
        (name, expires.encode() if name == b"Expires" else value) for name, value in found.query
    )
    assert refused(replaced(found, query=query)).code in {"AccessDenied", "SignatureDoesNotMatch"}
