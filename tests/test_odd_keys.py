"""Keys that are no names, objects that are named alone, and what is said of a prefix where nothing is."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner
from lookalike import Lookalike
from s3server import forget_clients

import blobpack
from blobpack import SourceError
from blobpack.cli.main import main
from blobpack.packing.objects import ODD_KEY


@pytest.fixture
def put(s3_env, bucket):
    def put(*keys):
        for key in keys:
            s3_env.put(bucket, key, key.encode())
        return f"s3://{bucket}"

    return put


def packed(source, tmp_path, **options):
    report = blobpack.pack(source, tmp_path / "out.tar", all_files=True, force=True, **options)
    with blobpack.open_blob(tmp_path / "out.tar") as blob:
        return report, dict(blob.items())


@pytest.mark.parametrize("odd", ["p//b.png", "p/x/../b.png", "p/x/."])
def test_one_odd_key_does_not_refuse_a_prefix(put, bucket, tmp_path, odd):
    url = put("p/a.png", "p/c/d.png", odd)
    left_out = []
    report, members = packed(
        f"{url}/p/", tmp_path, hidden=True, on_skipped=lambda *found: left_out.append(found)
    )
    assert members == {"a.png": b"p/a.png", "c/d.png": b"p/c/d.png"}
    assert report.skipped == {ODD_KEY: 1}
    assert report.examples[ODD_KEY] == [f"{url}/{odd}"]
    assert left_out == [(f"{url}/{odd}", ODD_KEY)]


def test_the_ways_out_are_ways(put, bucket, tmp_path):
    url = put("p/a.png", "p//b.png", "/lead.png")
    assert packed([f"{url}/p/", f"{url}/p//b.png"], tmp_path)[1] == {
        "p/a.png": b"p/a.png",
        "b.png": b"p//b.png",
    }
    assert packed(f"{url}/p//", tmp_path)[1] == {"b.png": b"p//b.png"}
    assert packed(f"{url}//", tmp_path)[1] == {"lead.png": b"/lead.png"}
    (tmp_path / "list.csv").write_text(f"url,name\n{url}/p//b.png,p/b.png\n")
    source = blobpack.read_manifest(tmp_path / "list.csv")
    assert packed(source, tmp_path)[1] == {"p/b.png": b"p//b.png"}


def test_a_slash_too_many_is_forgiven(put, tmp_path):
    url = put("p/a.png")
    for end in ("p//", "p///", "/"):
        assert list(packed(f"{url}/{end}", tmp_path)[1]) == ["a.png" if "p" in end else "p/a.png"]


def test_the_command_names_the_url_of_an_odd_key(put, tmp_path):
    url = put("p/a.png", "p//b.png")
    command = ["pack", f"{url}/p/", str(tmp_path / "out.tar"), "--all"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0
    assert f"skipped 1: {ODD_KEY} ({url}/p//b.png)" in done.output


class TestAlone:
    def test_an_object_named_alone_is_packed(self, put, tmp_path):
        url = put("one/x.png", "one/x.png.bak", "one/.h.png", "top.png")
        for key, name in (
            ("one/x.png", "x.png"),
            ("one/.h.png", ".h.png"),
            ("top.png", "top.png"),
        ):
            assert packed(f"{url}/{key}", tmp_path)[1] == {name: key.encode()}
        assert packed([f"{url}/one/x.png", f"{url}/top.png"], tmp_path)[1] == {
            "top.png": b"top.png",
            "x.png": b"one/x.png",
        }
        assert packed("x.png", tmp_path, directory=f"{url}/one")[1] == {"x.png": b"one/x.png"}
        assert packed(f"{url}/one/x.png", tmp_path, prefix="new/")[1] == {"new/x.png": b"one/x.png"}

    def test_objects_below_come_first(self, put, tmp_path):
        url = put("one/x.png", "one/x.png/a.png")
        assert packed(f"{url}/one/x.png", tmp_path)[1] == {"a.png": b"one/x.png/a.png"}

    def test_it_may_be_appended(self, put, tmp_path):
        url = put("one/x.png", "two/y.png")
        packed(f"{url}/one/x.png", tmp_path)
        blobpack.append(tmp_path / "out.tar", f"{url}/two/y.png", all_files=True)
        with blobpack.open_blob(tmp_path / "out.tar") as blob:
            assert dict(blob.items()) == {"x.png": b"one/x.png", "y.png": b"two/y.png"}

    def test_a_change_while_it_is_packed_is_noticed(
        self, s3_env, put, bucket, tmp_path, monkeypatch
    ):
        from blobpack.stores.s3 import listing

        url, find = put("one/x.png"), listing.find_object

        def and_change(target):
            found = find(target)
            s3_env.put(bucket, "one/x.png", b"another")
            return found

        monkeypatch.setattr(listing, "find_object", and_change)
        with pytest.raises(SourceError, match=r"one/x.png changed while it was packed"):
            packed(f"{url}/one/x.png", tmp_path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("p/none.png", "there is no such object, and none below it as a prefix"),
        ("/none.png", "there is no such object, and none below it as a prefix"),
        ("p/none/", "there is no object below this prefix"),
        ("none//", "there is no object below this prefix"),
        ("", "the bucket is empty"),
    ],
)
def test_a_message_names_only_the_url_that_was_given(put, tmp_path, source, said):
    url = put(*(["p/a.png"] if source else []))
    given = f"{url}/{source}" if source else url
    with pytest.raises(SourceError) as caught:
        packed(given, tmp_path)
    assert str(caught.value) == f"{given}: {said}"
    assert re.findall(r"s3://[^ ]*[^ :]", str(caught.value)) == [given]
    assert caught.value.paths == (given,)


def test_without_the_right_to_list_the_message_names_the_right(s3_env, put, tmp_path, monkeypatch):
    url = put("one/x.png")
    with Lookalike(s3_env, "no right to list") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        forget_clients()
        with pytest.raises(SourceError, match="the right s3:ListBucket may be missing"):
            packed(f"{url}/one/", tmp_path)
        # an object can be read, and packed, without that right
        assert packed(f"{url}/one/x.png", tmp_path)[1] == {"x.png": b"one/x.png"}
        with pytest.raises(SourceError, match="without s3:ListBucket, the object"):
            packed(f"{url}/one/none.png", tmp_path)
