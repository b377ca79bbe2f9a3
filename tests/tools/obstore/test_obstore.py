"""obstore, and with it every program on Rust's object_store, lists and reads members."""

from __future__ import annotations

import obstore
import pytest
from obstore.store import S3Store
from s3_tools import ACCESS_KEY, SECRET_KEY, members, serving_s3

import blobpack


@pytest.fixture
def payloads(small_images):
    return members(small_images)


@pytest.fixture
def url(payloads, tmp_path, no_aws):
    blobpack.pack(payloads.items(), tmp_path / "photos.tar", all_files=True)
    with serving_s3(tmp_path / "photos.tar") as url:
        yield url


def store_at(url, **options):
    return S3Store(
        "photos",
        endpoint=url,
        access_key_id=ACCESS_KEY,
        secret_access_key=options.get("secret", SECRET_KEY),
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def test_listing(url, payloads):
    store = store_at(url)
    found = {one["path"]: one["size"] for page in obstore.list(store, chunk_size=2) for one in page}
    assert set(found.values()) == {len(payload) for payload in payloads.values()}
    assert len(found) == len(payloads)
    folders = obstore.list_with_delimiter(store)["common_prefixes"]
    assert {"birds", "cats", "dogs"} <= set(folders)


def test_reading(url, payloads):
    store = store_at(url)
    for name in ("cats/0001.jpg", "dogs/größer 1.png", "large.bin", "empty.bin"):
        assert bytes(obstore.get(store, name).bytes()) == payloads[name]
        assert obstore.head(store, name)["size"] == len(payloads[name])
    large = payloads["large.bin"]
    assert bytes(obstore.get_range(store, "large.bin", start=5, end=9)) == large[5:9]
    parts = obstore.get_ranges(store, "large.bin", starts=[0, 9_000_000], ends=[7, 9_000_009])
    assert [bytes(part) for part in parts] == [large[:7], large[9_000_000:9_000_009]]


def test_conditions_and_refusals(url):
    store = store_at(url)
    etag = obstore.head(store, "cats/0001.jpg")["e_tag"]
    obstore.get(store, "cats/0001.jpg", options={"if_match": etag})
    with pytest.raises(Exception, match="Precondition"):
        obstore.get(store, "cats/0001.jpg", options={"if_match": '"other"'})
    with pytest.raises(FileNotFoundError):
        obstore.get(store, "none")
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        obstore.get(store_at(url, secret="wrong"), "cats/0001.jpg")
    with pytest.raises(Exception, match="MethodNotAllowed"):
        obstore.put(store, "new", b"new")
