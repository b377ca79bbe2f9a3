"""A path or URL is parsed once: what it means, and what is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from blobpack.model import redacted
from blobpack.stores.location import Location, is_absolute


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("a.tar", "local"),
        ("/a/b.tar", "local"),
        ("", "local"),
        ("./s3:/a", "local"),
        ("a:/b", "local"),
        ("/a/s3:/b", "local"),
        ("file:/a.tar", "local"),
        (Path("a.tar"), "local"),
        (Path("file:///a.tar"), "local"),
        ("file:///a.tar", "local"),
        ("FILE://localhost/a.tar", "local"),
        ("s3://bucket/key", "s3"),
        ("S3://bucket/key", "s3"),
        ("http://host/a.tar", "http"),
        ("HTTPS://host/a.tar", "http"),
    ],
)
def test_kind(place: str | Path, kind: str) -> None:
    location = Location.parse(place)
    assert location.kind == kind
    assert (location.is_local, location.is_s3) == (kind == "local", kind == "s3")


def test_whole_is_as_it_was_given() -> None:
    for place in ("a/../b.tar", "s3://bucket/a b", "https://host/a?b#c", "a%20b"):
        assert Location.parse(place).whole == place


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///a%20b.tar", "/a b.tar"),
        ("file://localhost/a.tar", "/a.tar"),
        ("file:///a?b#c", "/a?b#c"),
        ("file:///%FF", os.fsdecode(b"/\xff")),
        ("file:///a%2520b", "/a%20b"),
    ],
)
def test_file_url_is_the_path_that_it_means(url: str, path: str) -> None:
    location = Location.parse(url)
    assert location.text == location.path == os.fspath(location) == path


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gopher://bucket/a.tar", "not gopher://"),
        ("://a.tar", "blobs are read from"),
        ("file://far/a.tar", "on another host"),
        ("file://localhost", "names no file"),
        ("s3://", "is not s3://bucket/key"),
        ("s3://bucket", "is not s3://bucket/key"),
        ("s3://bucket/", "is not s3://bucket/key"),
        ("s3:///key", "is not s3://bucket/key"),
        ("s3:/bucket/key", "lost a slash"),
        ("gs:/bucket/key", "lost a slash"),
        ("HTTPS:/host/key", "lost a slash"),
        ("a\0b", "holds NUL"),
        ("./a:/\0", "holds NUL"),
        ("file:///a%00b", "holds NUL"),
        ("file:/a%00b", "holds NUL"),
        ("http://", "is not http"),
        ("http:///a", "is not http"),
        ("http://[::1/a", "is not http"),
        ("http://host:0/a", "is not http"),
        ("http://host:99999/a", "is not http"),
        ("http://host:x/a", "is not http"),
        ("http://ho st/a", "is not http"),
        ("http://ho\0st/a", "is not http"),
        ("http://ü..b/a", "is not http"),
        (f"http://{'ü' * 64}/a", "is not http"),
        ("http://\u2100/a", "is not http"),
    ],
)
def test_other_urls_are_value_errors(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        Location.parse(url)
    assert repr(url) in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://me:secret@host/a", "http://me:secret@[::1/a", "https://me:secret@/a"]
)
def test_a_password_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="http") as refused:
        Location.parse(url)
    assert "secret" not in str(refused.value)


def test_a_path_object_is_no_url() -> None:
    """Pathlib has made one slash of two; as a local path, this would be a folder named s3:."""
    for url in ("s3://bucket/key", "https://host/key", "gopher://bucket/key"):
        with pytest.raises(ValueError, match="lost a slash"):
            Location.parse(Path(url))


def test_prefix_needs_no_key_but_a_bucket() -> None:
    for url, folder in [
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/", "s3://bucket/"),
        ("s3://bucket/a", "s3://bucket/a/"),
        ("s3://bucket/a//", "s3://bucket/a/"),
    ]:
        location = Location.parse(url, prefix=True)
        assert location.as_folder.text == folder
        assert location.as_folder.key == folder.removeprefix("s3://bucket/")
    for url in ("s3://", "s3:///key"):
        with pytest.raises(ValueError, match="is not s3://bucket/key"):
            Location.parse(url, prefix=True)


def test_location_is_not_parsed_again() -> None:
    for place in ("a.tar", "s3://bucket/a"):
        location = Location.parse(place)
        assert Location.parse(location) is location
    bucket = Location.parse("s3://bucket", prefix=True)
    assert Location.parse(bucket) is bucket


@pytest.mark.parametrize(
    "key",
    [
        "a b.tar",
        "ünï/ 猫.tar",
        "100%25.tar",
        "a+b.tar",
        "/a//b.tar",
        "a?b=c.tar",
        "a#b.tar",
        "./a/../b.tar",
        "a[1];b\tc",
        "x://y",
    ],
)
def test_s3_key_is_all_behind_the_bucket_as_it_stands(key: str) -> None:
    location = Location.parse(f"s3://bucket/{key}")
    assert (location.bucket, location.key) == ("bucket", key)
    assert location == Location.in_s3("bucket", key)
    assert location.remote_name == key


@pytest.mark.parametrize("url", ["s3://bucket?x/key", "s3://bucket#x/key", "s3://buc\tket/key"])
def test_s3_bucket_is_never_cut_to_another_one(url: str) -> None:
    """A bucket that can't exist is kept whole, for S3 to refuse."""
    assert Location.parse(url).bucket == url.removeprefix("s3://").removesuffix("/key")


def test_what_a_location_does_not_have_is_a_value_error() -> None:
    for url in ("s3://bucket/a", "http://host/a"):
        for use in (lambda place: place.path, os.fspath, Path, os.stat, open):
            with pytest.raises(ValueError, match="is not a local path"):
                use(Location.parse(url))
    for place in ("a", "http://host/a"):
        for name in ("bucket", "key"):
            with pytest.raises(ValueError, match="is not s3://bucket/key"):
                getattr(Location.parse(place), name)


def test_local_location_opens_as_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a b"
    path.write_bytes(b"x")
    location = Location.parse(path.as_uri())
    assert Path(location) == path
    assert Path(location).read_bytes() == b"x"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://host/a/b%20c.tar", "a/b c.tar"),
        ("https://host//a.tar?signature=x/y", "a.tar"),
        ("http://host/%FF", os.fsdecode(b"\xff")),
        ("http://host", ""),
    ],
)
def test_name_of_an_http_url_is_its_decoded_path(url: str, name: str) -> None:
    assert Location.parse(url).remote_name == name


def test_here_is_the_path_or_the_name_in_this_folder() -> None:
    assert Location.parse("/a/b.tar").path_or_name == "/a/b.tar"
    assert Location.parse("s3://bucket/a/b.tar").path_or_name == "b.tar"
    assert Location.parse("https://host/b.tar?key=a/b").path_or_name == "b.tar"
    assert Location.parse("https://host/a%2F..%2F..%2Fb.tar").path_or_name == "b.tar"


def test_folder_is_absolute_and_ends_with_a_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert Location.parse("a/b.tar").folder.text == "/a/"
    assert Location.parse("b.tar").folder.text == "/"
    assert Location.parse("s3://bucket/a/b.tar").folder.text == "s3://bucket/a/"
    assert Location.parse("s3://bucket/b.tar").folder.text == "s3://bucket/"
    assert Location.parse("https://host/a/b").folder.text == "https://host/a/"


def test_neighbours() -> None:
    assert Location.parse("s3://bucket/a.tar").beside(".idx").text == "s3://bucket/a.tar.idx"
    assert Location.parse("shards").as_folder.below("a.tar") == Location.parse("shards/a.tar")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a.tar", "https://host/a.tar"),
        ("https://host/a@2x.tar", "https://host/a@2x.tar"),
        ("https://host:80/a.tar?SECRET=1&x=SECRET", "https://host:80/a.tar?…"),
        ("https://host/a.tar#SECRET?SECRET", "https://host/a.tar#…"),
        ("https://host?SECRET/SECRET@b", "https://host?…"),
        ("https://SECRET@host/a.tar", "https://…@host/a.tar"),
        ("https://SECRET:SECRET@SECRET@host/a", "https://…@host/a"),
        ("https://SECRET@[::1]:80/a?SECRET", "https://…@[::1]:80/a?…"),
        ("https://user:SEC/RET@host/a", "https://…"),
        ("https://user:SEC?RET@host/a", "https://…"),
        ("gopher://SECRET:SECRET@host/a?SECRET", "gopher://…@host/a?…"),
        ("://SECRET@host", "://…@host"),
        ("s3://bucket/a?b@c#d", "s3://bucket/a?b@c#d"),
        ("a?b@c", "a?b@c"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert redacted(url) == shown
    # a URL with a user is refused, and the message does not show the user either
    try:
        location = Location.parse(url)
    except ValueError as exc:
        assert "SEC" not in str(exc)
        assert "@" in url or url == ""
    else:
        assert location.text == str(location) == f"{location}" == shown
        assert "SEC" not in repr(location)
        assert location.whole == url
        assert pickle.loads(pickle.dumps(location)).whole == url


def test_the_query_stays_behind_the_path() -> None:
    blob = Location.parse("https://host/a/b.tar?token=x/y")
    assert blob.address == "https://host/a/b.tar"
    assert blob.path_or_name == "b.tar"
    assert blob.beside(".idx").whole == "https://host/a/b.tar.idx?token=x/y"
    assert blob.folder.whole == "https://host/a/?token=x/y"
    assert blob.folder.below("c.tar").whole == "https://host/a/c.tar?token=x/y"
    assert Location.parse("https://host/a?t").as_folder.whole == "https://host/a/?t"
    assert Location.parse("https://host/a/b.tar?t").text == "https://host/a/b.tar?…"


def test_whole_names() -> None:
    for name in ("/a", "s3://bucket/a", "x://y"):
        assert is_absolute(name)
    for name in ("a", "a/b", "s3:/a", ""):
        assert not is_absolute(name)


def test_pickle() -> None:
    location = Location.parse("s3://bucket/a")
    assert pickle.loads(pickle.dumps(location)) == location
    assert hash(location) == hash(Location.parse("s3://bucket/a"))


def test_the_scheme_of_a_url_is_written_in_one_way() -> None:
    """Locations are compared: a blob that is given as S3://… must not be packed into itself."""
    assert Location.parse("S3://Bucket/Key") == Location.parse("s3://Bucket/Key")
    assert Location.parse("HTTPS://host/A").text == "https://host/A"
