"""The commands gallery and cors: the page that is written, what it replaces, and the rules of a bucket."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from gallery_page import opened
from gatewayserver import serving
from js_reader import chromium
from webserver import WebServer

import blobpack
from blobpack.cli.main import main
from blobpack.gateway.app import gateway_app
from blobpack.gateway.cors import _is_in_the_way
from blobpack.gateway.gallery import ShownBlob, page

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser
    from s3server import S3Server

__all__ = ["chromium"]


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def blob(tmp_path: Path, small_images: dict[str, bytes]) -> Path:
    blobpack.pack(small_images, tmp_path / "out.tar")
    return tmp_path / "out.tar"


def blob_in(page: bytes) -> dict[str, Any]:
    found = re.search(
        rb'<script type="application/json" id="settings">(.*?)</script>', page, re.DOTALL
    )
    assert found
    (shown,) = json.loads(found[1])["blobs"]
    return dict(shown)


# ---- the page


def test_the_policy_allows_the_pages_own_script_and_style_and_the_blobs_origin_only():
    html = page([ShownBlob("a.tar", "https://cdn.example.org/x/a.tar")]).decode()
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert found
    policy = dict(rule.split(" ", 1) for rule in found[1].replace("&#x27;", "'").split("; "))
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert policy == {
        "default-src": "'none'",
        "script-src": source(script),
        "style-src": source(style),
        "img-src": "blob:",
        "connect-src": "'self' https://cdn.example.org",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_the_page_loads_nothing_from_elsewhere():
    html = page([ShownBlob("a.tar", "a.tar")]).decode()
    assert re.findall(r"<(?:link|iframe|object|embed|audio|video|base)\b", html) == []
    assert re.findall(r'\b(?:src|href)="(?!#)', html) == []
    assert "import {" not in html
    assert "@import" not in html
    assert "url(" not in html.partition("<script>")[0]
    # the end of the script is the end of the element
    assert html.lower().count("</script") == 2


# ---- blobpack gallery


def test_the_page_lies_beside_the_blob_and_reads_it_by_a_relative_url(blob):
    assert run("gallery", blob) == f"wrote {blob.with_name('out.html')}, which reads ./out.tar\n"
    assert blob_in(blob.with_name("out.html").read_bytes()) == {
        "name": "out.tar",
        "url": "./out.tar",
        "s3": "",
        "endpoint": "",
        "size": blob.stat().st_size,
    }
    # a gallery replaces a gallery
    run("gallery", blob, "-o", blob.with_name("out.html"))


def test_the_page_may_lie_in_another_folder_and_the_blob_elsewhere(blob, tmp_path):
    (tmp_path / "web").mkdir()
    run("gallery", blob, "-o", tmp_path / "web" / "index.html")
    assert blob_in((tmp_path / "web" / "index.html").read_bytes())["url"] == "./../out.tar"
    run("gallery", blob, "-o", tmp_path / "a.html", "--url", "https://cdn.example.org/out.tar")
    assert blob_in((tmp_path / "a.html").read_bytes())["url"] == "https://cdn.example.org/out.tar"
    odd = blob.rename(tmp_path / "a:b #1 größe?.tar")
    run("gallery", odd, "-o", tmp_path / "b.html")
    assert (
        blob_in((tmp_path / "b.html").read_bytes())["url"]
        == "./a%3Ab%20%231%20gr%C3%B6%C3%9Fe%3F.tar"
    )


@pytest.mark.parametrize("content", [b"<!doctype html><title>mine</title>", b"\x89PNG", b"text"])
def test_a_file_that_is_no_gallery_is_not_replaced(blob, tmp_path, content):
    target = tmp_path / "index.html"
    target.write_bytes(content)
    assert "is no gallery" in run("gallery", blob, "-o", target, code=1)
    assert target.read_bytes() == content
    run("gallery", blob, "-o", target, "--force")
    assert blob_in(target.read_bytes())["url"] == "./out.tar"


def test_a_gallery_is_not_written_under_a_name_of_something_else(blob, tmp_path):
    assert "ends in .png" in run("gallery", blob, "-o", tmp_path / "a.png", code=2)
    assert "ends in .html" in run("subset", blob, tmp_path / "a.html", code=2)
    run("gallery", blob, "-o", tmp_path / "gallery")


def test_a_blob_that_no_browser_can_read_gets_no_page(blob, tmp_path, small_images):
    blobpack.pack(small_images, tmp_path / "bare.tar", index="none")
    assert "blobpack index" in run("gallery", tmp_path / "bare.tar", code=1)
    blobpack.pack(small_images, tmp_path / "small.tar.zst")
    assert "blobpack repack" in run("gallery", tmp_path / "small.tar.zst", code=1)
    blobpack.pack(small_images, tmp_path / "beside.tar", index="sidecar")
    run("gallery", tmp_path / "beside.tar")
    assert "name the blob itself" in run("gallery", tmp_path / "beside.tar.idx", code=1)
    assert "collection.idx" in run("gallery", tmp_path, code=1)
    run("gallery", tmp_path / "none.tar", code=1)
    assert sorted(path.name for path in tmp_path.glob("*.html")) == ["beside.html"]


def test_a_folder_with_a_collection_gets_one_page(tmp_path, small_images):
    blobpack.pack_shards(small_images, tmp_path / "shards", 10_000)
    for place in ("shards", "shards/collection.idx"):
        run("gallery", tmp_path / place)
        written = (tmp_path / "shards" / "collection.html").read_bytes()
        assert blob_in(written)["url"] == "./collection.idx"


def test_the_report_as_json(blob):
    report = json.loads(run("gallery", blob, "--json"))
    assert report == {
        "command": "gallery",
        "page": str(blob.with_name("out.html")),
        "url": "",
        "blob": "./out.tar",
    }


def test_a_blob_behind_http_gets_a_page_here(blob, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with WebServer(tmp_path) as server:
        run("gallery", f"{server.url}out.tar")
        assert (
            blob_in((tmp_path / "here" / "out.html").read_bytes())["url"] == f"{server.url}out.tar"
        )


# ---- in S3


def make_public(s3: S3Server, bucket: str) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{bucket}/*"],
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def check_gallery(chromium: Browser, url: str, images: dict[str, bytes]) -> None:
    with opened(chromium) as shown:
        shown.goto(url)
        assert {tile.name: tile.bytes for tile in shown.rest()} == images
        shown.press("ArrowRight", "Enter")
        shown.until(lambda: "checked" in shown.page.inner_text("#facts"))
        assert shown.errors == []


def test_one_command_puts_a_gallery_into_a_bucket(chromium, s3_env, bucket, small_images):
    make_public(s3_env, bucket)
    blobpack.pack(small_images, f"s3://{bucket}/sets/out.tar")
    report = json.loads(run("gallery", f"s3://{bucket}/sets/out.tar", "--json"))
    assert report["page"] == f"s3://{bucket}/sets/out.html"
    assert report["url"] == f"{s3_env.endpoint}/{bucket}/sets/out.html"
    with urllib.request.urlopen(report["url"]) as response:
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert blob_in(response.read()) == {
            "name": "out.tar",
            "url": "./out.tar",
            "s3": f"s3://{bucket}/sets/out.tar",
            "endpoint": s3_env.endpoint,
            "size": len(s3_env.stored(bucket, "sets/out.tar")),
        }
    # the page is of the bucket's own origin, so it needs no rule
    check_gallery(chromium, report["url"], small_images)
    s3_env.put(bucket, "mine.html", b"<title>mine</title>")
    run("gallery", f"s3://{bucket}/sets/out.tar", "-o", f"s3://{bucket}/mine.html", code=1)
    assert s3_env.stored(bucket, "mine.html") == b"<title>mine</title>"


def test_a_page_of_another_origin_reads_a_public_bucket_after_one_command(
    chromium, s3_env, bucket, small_images, tmp_path
):
    make_public(s3_env, bucket)
    blobpack.pack(small_images, f"s3://{bucket}/out.tar")
    report = json.loads(
        run("gallery", f"s3://{bucket}/out.tar", "-o", tmp_path / "index.html", "--json")
    )
    assert report["blob"] == f"{s3_env.endpoint}/{bucket}/out.tar"
    with WebServer(tmp_path) as server:
        with opened(chromium) as shown:
            shown.page.goto(f"{server.url}index.html")
            assert shown.until(lambda: shown.banner)
        run("cors", f"s3://{bucket}", "--origin", server.url.rstrip("/"), "--set")
        check_gallery(chromium, f"{server.url}index.html", small_images)
        with opened(chromium) as shown:
            shown.goto(f"{server.url}index.html#row=0")
            code = shown.snippets()["S3"]
        assert (
            code.split()
            == (
                f"aws s3api get-object --endpoint-url {s3_env.endpoint} \\ --bucket {bucket} --key out.tar "
                f"\\ --range bytes=512-{511 + len(small_images['birds/grey.png'])} grey.png"
            ).split()
        )
    with WebServer(tmp_path) as other, opened(chromium) as shown:
        shown.page.goto(f"{other.url}index.html")
        assert shown.until(lambda: shown.banner)


def test_a_server_shows_where_its_blobs_lie_in_s3(chromium, s3_env, bucket, small_images):
    blobpack.pack(small_images, f"s3://{bucket}/sets/out.tar")
    size = len(s3_env.stored(bucket, "sets/out.tar"))
    with (
        blobpack.open(f"s3://{bucket}/sets/out.tar") as blob,
        serving(gateway_app({"out": blob})) as client,
        opened(chromium) as shown,
    ):
        assert blob_in(client.ask("/").body) == {
            "name": "out",
            "url": "raw/out",
            "s3": f"s3://{bucket}/sets/out.tar",
            "endpoint": s3_env.endpoint,
            "size": size,
        }
        shown.goto(f"{client.url}/#row=0")
        snippets = shown.snippets()
        assert f"--bucket {bucket} --key sets/out.tar" in snippets["S3"]
        names: dict[str, Any] = {}
        exec(snippets["blobpack"], names)
        assert names["payload"] == small_images["birds/grey.png"]


# ---- blobpack cors


def rules_of(s3: S3Server, bucket: str) -> list[dict[str, Any]]:
    return list(s3.client.get_bucket_cors(Bucket=bucket)["CORSRules"])


def test_cors_prints_the_rules_and_sets_nothing(s3_env, bucket):
    rules = json.loads(run("cors", f"s3://{bucket}"))["CORSRules"]
    assert rules == [
        {
            "ID": "blobpack",
            "AllowedOrigins": ["*"],
            "AllowedMethods": ["GET", "HEAD"],
            "AllowedHeaders": ["Range"],
            "ExposeHeaders": ["ETag", "Content-Range", "Content-Length", "Accept-Ranges"],
            "MaxAgeSeconds": 86400,
        }
    ]
    with pytest.raises(s3_env.client.exceptions.ClientError, match="NoSuchCORSConfiguration"):
        rules_of(s3_env, bucket)
    # what is printed is what boto3 and the AWS command line take
    s3_env.client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert "already allows" in run("cors", f"s3://{bucket}", "--set")


def test_rules_of_others_are_kept_and_our_older_one_is_replaced(s3_env, bucket):
    mine = {
        "ID": "mine",
        "AllowedOrigins": ["https://mine.example.org"],
        "AllowedMethods": ["PUT", "GET"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["x-amz-meta-a"],
        "MaxAgeSeconds": 5,
    }
    s3_env.client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [mine]})
    # as the server has it, which sorts the methods
    (mine,) = rules_of(s3_env, bucket)
    output = run("cors", f"s3://{bucket}", "--set", "--origin", "https://a.example.org")
    assert "1 other rule kept" in output
    run(
        "cors",
        f"s3://{bucket}",
        "--set",
        "--origin",
        "https://b.example.org",
        "--origin",
        "http://localhost:8000",
    )
    found, ours = rules_of(s3_env, bucket)
    assert found == mine
    assert set(ours["AllowedOrigins"]) == {"https://b.example.org", "http://localhost:8000"}
    assert "'mine' fits first" in run(
        "cors", f"s3://{bucket}", "--origin", "https://mine.example.org"
    )


@pytest.mark.parametrize(
    ("allowed", "asked", "is_said"),
    [
        ("http://[::1]:8000", "http://[::1]:8000", True),
        ("http://[::1]:8000", "http://:", False),
        ("https://*.example.org", "https://a.example.org", True),
        ("https://*.example.org", "https://example.org", False),
        ("https://a?.example.org", "https://ab.example.org", False),
        # all origins, of which the older rule fits one
        ("https://mine.example.org", "*", True),
        ("*", "https://a.example.org", True),
    ],
)
def test_a_rule_of_others_that_fits_first_is_said(s3_env, bucket, allowed, asked, is_said):
    mine = {"ID": "mine", "AllowedOrigins": [allowed], "AllowedMethods": ["GET"]}
    s3_env.client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [mine]})
    if asked == "http://:":
        assert not _is_in_the_way(mine, [asked])
        return
    assert ("'mine' fits first" in run("cors", f"s3://{bucket}", "--origin", asked)) == is_said


def test_a_rule_without_fields_is_kept():
    assert not _is_in_the_way({}, ["*"])
    assert not _is_in_the_way({"AllowedMethods": ["GET"]}, ["*"])


@pytest.mark.parametrize(
    "origin", ["example.org", "https://example.org/", "ftp://a", "https://", "https://a/b", ""]
)
def test_an_origin_is_a_scheme_and_a_host(origin):
    assert "neither * nor an origin" in run("cors", "s3://bucket", "--origin", origin, code=2)


@pytest.mark.parametrize("place", ["bucket", "s3://bucket/key", "https://host/bucket"])
def test_cors_is_for_a_whole_bucket(place):
    run("cors", place, code=2)


def test_a_bucket_that_does_not_exist_is_said(s3_env):
    assert "no such bucket" in run("cors", "s3://no-such-bucket-at-all", code=1)


def test_a_report_shows_no_signature(blob):
    for more, url in (
        ([], "https://host/out.tar?X-Amz-Signature=hidden"),
        (["--json", "--force"], "https://me:hidden@host/out.tar?Signature=hidden"),
    ):
        out = run("gallery", blob, "--url", url, *more)
        assert "host/out.tar" in out
        assert "hidden" not in out
