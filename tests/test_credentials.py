"""Profiles, endpoints and proxies that are wrong: one error of ours names what is wrong, and repeats no password."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest
from s3server import forget_clients
from test_http import answering

import blobpack
from blobpack import S3Options, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROLE = "role_arn = arn:aws:iam::123456789012:role/reader\n"
URL = "s3://bucket/key.tar"
SECRET = "s3cr3t"
# profile → what the message names
WRONG = {
    "credential_process = /nonexistent/program": "/nonexistent/program",
    "credential_process = echo no-json": "the AWS configuration is wrong",
    f"{ROLE}web_identity_token_file = /nonexistent/token": "/nonexistent/token",
    f"{ROLE}source_profile = nowhere": "nowhere",
    "sso_session = nowhere\nsso_account_id = 1\nsso_role_name = reader": "nowhere",
    "sso_start_url = https://x.example\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = reader": "SSO",
}


@pytest.fixture
def profile(no_aws, tmp_path: Path, monkeypatch) -> Callable[[str], S3Options]:
    """Write a profile, and return options that name it."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def write(text: str) -> S3Options:
        (tmp_path / "config").write_text(f"[profile tried]\n{text}\n")
        return S3Options(profile="tried")

    return write


@pytest.mark.parametrize("text", WRONG)
def test_a_profile_without_credentials_is_one_error_of_ours(profile, text):
    with pytest.raises(StorageError) as caught:
        blobpack.open_blob(URL, s3=profile(text))
    assert WRONG[text] in str(caught.value)


DENIED = b"""<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>"""


def test_a_role_that_is_refused_is_no_missing_right_in_s3(profile, s3, monkeypatch):
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n"
    with answering(head % len(DENIED) + DENIED) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        keys = f"aws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}"
        options = profile(f"{ROLE}source_profile = base\n[profile base]\n{keys}")
        with pytest.raises(StorageError, match=r"no credentials: .*sts:AssumeRole") as caught:
            blobpack.open_blob(URL, s3=options)
    assert "s3:GetObject" not in str(caught.value)


def everything_said(caught: pytest.ExceptionInfo[BaseException]) -> str:
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("endpoint", ["http://me:s3cr3t@127.0.0.1:1", "http://me:s3cr3t@"])
def test_the_password_of_an_endpoint_is_repeated_nowhere(s3_env, monkeypatch, endpoint):
    """Exported URLs of objects would hold it, too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    forget_clients()
    with pytest.raises(StorageError, match="the AWS configuration is wrong") as caught:
        blobpack.open_blob(URL)
    assert SECRET not in everything_said(caught)


PROXIES = (
    "http://me:x/s3cr3t@127.0.0.1:1",
    "http://me:s3cr3t@127.0.0.1:99999",
    "http://me:s3cr3t@[::1",
)


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("url", [URL, "http://192.0.2.1/key.tar"])
def test_a_proxy_that_is_no_url_is_one_error_of_ours(s3_env, monkeypatch, proxy, url):
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("http_proxy", proxy)
    forget_clients()
    with pytest.raises(StorageError, match="the proxy of the environment is not a URL") as caught:
        blobpack.open_blob(url)
    assert SECRET not in everything_said(caught)


def test_the_password_of_a_proxy_is_repeated_nowhere(s3_env, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY")
    # boto3 takes this for the host "socks5", and hides no password
    monkeypatch.setenv("http_proxy", "socks5://me:s3cr3t@127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    forget_clients()
    with pytest.raises(StorageError) as caught:
        blobpack.open_blob(URL)
    assert SECRET not in everything_said(caught)
