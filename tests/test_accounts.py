"""Accounts and servers as values: S3Options on functions and commands, two servers in one process, and pickling."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import pytest
from click.testing import CliRunner
from faultserver import FaultServer
from format_vectors import png
from s3server import LOADER

import blobpack
from blobpack import S3Options, StorageError
from blobpack.cli.main import main
from blobpack.packing import objects
from blobpack.stores.access.remote import Access
from blobpack.stores.access.s3_options import read_key
from blobpack.stores.location import Location
from blobpack.stores.s3 import signing
from blobpack.stores.s3.bucket import Bucket, ObjectKey
from blobpack.stores.s3.client import client_of
from blobpack.stores.s3.signing import Signatures

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

MEMBERS = {f"{number:02}.txt": b"%d" % number * 900 for number in range(12)}


def run(*arguments: str, code: int = 0) -> Any:
    """Run a command line."""
    result = CliRunner().invoke(main, arguments, standalone_mode=True)
    assert result.exit_code == code, result.output
    return result


def make_public(s3: S3Server, bucket: str) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


@pytest.fixture
def url(s3: S3Server, no_aws: None) -> str:
    """A blob on a server that the environment knows nothing about."""
    bucket = s3.new_bucket()
    blobpack.pack(MEMBERS, f"s3://{bucket}/sets/out.tar", all_files=True, s3=account(s3))
    return f"s3://{bucket}/sets/out.tar"


@pytest.fixture
def public_url(s3: S3Server, url: str) -> str:
    """A blob that everybody may read, and whose bucket everybody may list."""
    make_public(s3, Location.parse(url).bucket)
    return url


def account(s3: S3Server, **options: Any) -> S3Options:
    """The account of the server, without the environment."""
    # with the loader that all sessions of the tests share
    core = botocore.session.Session()
    core.register_component("data_loader", LOADER)
    session = boto3.Session(
        s3.access_key, s3.secret_key, region_name=s3.region, botocore_session=core
    )
    return S3Options(session=session, endpoint_url=s3.endpoint, **options)


def anonymous(s3: S3Server) -> S3Options:
    return S3Options(anonymous=True, endpoint_url=s3.endpoint, region=s3.region)


@pytest.fixture
def profile(s3: S3Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A profile in the configuration files, with credentials and without a server."""
    config = tmp_path / "config"
    config.write_text(
        f"[profile loopback]\naws_access_key_id = {s3.access_key}\n"
        f"aws_secret_access_key = {s3.secret_key}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    return "loopback"


class TestAnonymous:
    def test_a_blob_is_read_on_our_own_connections(self, s3, public_url):
        with blobpack.open(public_url, s3=anonymous(s3)) as blob:
            assert dict(blob.items()) == MEMBERS
            assert b"Authorization" not in blob.store.ranged_get().head
            assert blob.store.ranged_get().head.startswith(b"GET /")

    def test_a_prefix_is_listed_and_its_objects_share_one_request_of_boto3(
        self, s3, public_url, monkeypatch, tmp_path
    ):
        bucket = Location.parse(public_url).bucket
        for name, payload in MEMBERS.items():
            s3.put(bucket, f"files/{name}", payload)
        signed = []
        sign = signing.sign

        def noted(*arguments: Any) -> Any:
            signed.append(arguments)
            return sign(*arguments)

        monkeypatch.setattr(signing, "sign", noted)
        # objects that are asked for at once, before the first signature is there, would need one each
        monkeypatch.setattr(objects, "OBJECTS_AT_ONCE", 1)
        report = blobpack.pack(
            f"s3://{bucket}/files", tmp_path / "out.tar", all_files=True, s3=anonymous(s3)
        )
        assert report.members == len(MEMBERS)
        assert len(signed) == 1
        with blobpack.open(tmp_path / "out.tar") as blob:
            assert dict(blob.items()) == MEMBERS

    def test_images_of_a_blob_are_exported(self, s3, public_url, tmp_path):
        from blobpack.integrations.export import export_records, write_export

        url = public_url.replace("out.tar", "images.tar")
        blobpack.pack({"1.png": png(2, 3)}, url, s3=account(s3))
        report = write_export(url, tmp_path / "all.jsonl", "cvat", s3=anonymous(s3))
        assert report.images == 1
        assert len(list(export_records(url, "cvat", s3=anonymous(s3)))) == 1
        run(
            *("export", "cvat", url, "-o", str(tmp_path / "again.jsonl"), "--anonymous"),
            *("--endpoint-url", s3.endpoint, "--region", s3.region),
        )
        assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "all.jsonl").read_bytes()

    def test_a_private_object_is_refused(self, s3, url):
        with pytest.raises(StorageError, match="AccessDenied"):
            blobpack.open(url, s3=anonymous(s3))

    def test_without_it_the_message_names_it(self, s3, public_url):
        with pytest.raises(StorageError, match=r"no AWS credentials.*anonymous=True"):
            blobpack.open(public_url, s3=S3Options(endpoint_url=s3.endpoint))

    def test_the_commands_take_it(self, s3, public_url):
        options = ("--anonymous", "--endpoint-url", s3.endpoint)
        assert run("cat", public_url, "03.txt", *options).stdout_bytes == MEMBERS["03.txt"]
        # the folder is listed, too
        folder = public_url.removesuffix("out.tar")
        assert run("ls", folder, *options).stdout.split() == list(MEMBERS)

    def test_a_process_without_any_setting_reads(self, s3, public_url, tmp_path):
        env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        env |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
        code = (
            "import blobpack, sys\n"
            "s3 = blobpack.S3Options(anonymous=True, endpoint_url=sys.argv[2])\n"
            "with blobpack.open(sys.argv[1], s3=s3) as blob:\n"
            "    print(len(blob), blob.read('05.txt')[:1].decode())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, public_url, s3.endpoint],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == (f"{len(MEMBERS)} 5\n", "")


class TestAccounts:
    def test_a_session_decides(self, s3, url):
        assert blobpack.open(url, s3=account(s3)).read("01.txt") == MEMBERS["01.txt"]

    def test_a_profile_decides(self, s3, url, profile):
        options = S3Options(profile=profile, endpoint_url=s3.endpoint)
        assert blobpack.open(url, s3=options).read("01.txt") == MEMBERS["01.txt"]
        arguments = ("--profile", profile, "--endpoint-url", s3.endpoint, "--region", s3.region)
        assert run("cat", url, "01.txt", *arguments).stdout_bytes == MEMBERS["01.txt"]

    def test_a_profile_there_is_not_is_named(self, url):
        with pytest.raises(StorageError, match="nobody"):
            blobpack.open(url, s3=S3Options(profile="nobody"))
        assert "nobody" in run("ls", url, "--profile", "nobody", code=1).output

    def test_two_servers_at_once(self, s3, url, faults_elsewhere):
        """The same bucket and key behind two endpoints: each blob is read from its own."""
        one = blobpack.open(url, s3=account(s3))
        other = blobpack.open(
            url, s3=S3Options(session=account(s3).session, endpoint_url=faults_elsewhere.endpoint)
        )
        before = len(faults_elsewhere.requests)
        assert one.read("02.txt") == MEMBERS["02.txt"]
        assert len(faults_elsewhere.requests) == before
        assert other.read("02.txt") == MEMBERS["02.txt"]
        assert len(faults_elsewhere.requests) == before + 1

    def test_locations_are_equal_on_one_server_only(self):
        """A blob must not be packed into itself, and may be copied to another server under its URL."""
        one, same, other = (
            Location.parse("s3://bucket/key", access=Access(S3Options(**options)))
            for options in (
                {"endpoint_url": "http://one"},
                {"endpoint_url": "http://one", "tags": {"a": "b"}, "region": "x"},
                {"endpoint_url": "http://other"},
            )
        )
        assert one == same != other
        assert len({one, same, other, Location.parse("s3://bucket/key")}) == 3

    def test_clients_of_one_account_are_one(self, s3):
        session = boto3.Session("a", "b")
        same = [S3Options(session=session, region="x", tags={"a": str(n)}) for n in range(2)]
        assert client_of(same[0]) is client_of(same[1])
        assert client_of(same[0]) is not client_of(S3Options(session=session, region="y"))

    def test_a_signature_makes_no_session(self, s3, url, monkeypatch):
        """A session takes 10 ms of processor time, and a signature less than one."""
        with blobpack.open(url, s3=account(s3)) as blob:
            blob.read("00.txt")

            def no_session(*arguments: object, **options: object) -> None:
                raise AssertionError

            monkeypatch.setattr(boto3.Session, "__init__", no_session)
            monkeypatch.setattr("botocore.session.Session.__init__", no_session)
            assert blob.store._sign() is not None

    def test_requester_pays_is_sent_by_both_ways(self, s3, url, faults_elsewhere):
        options = S3Options(
            session=account(s3).session,
            endpoint_url=faults_elsewhere.endpoint,
            requester_pays=True,
        )
        with blobpack.open(url, s3=options) as blob:
            assert b"\r\nx-amz-request-payer: requester\r\n" in blob.store.ranged_get().head
            assert blob.read("04.txt") == MEMBERS["04.txt"]
        bucket = Bucket(blob.store.bucket, options=options)
        asked: list[dict[str, str]] = []
        client_of(options).meta.events.register(
            "before-send.s3", lambda request, **_: asked.append(dict(request.headers))
        )
        bucket.ask("list_objects_v2", what="list")
        bucket.ask("head_object", what="look", Key=blob.store.key)
        assert all("x-amz-request-payer" in headers for headers in asked)
        assert len(asked) == 2

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--sse-kms-key-id", "k"], "--sse-kms-key-id needs"),
            (["--metadata", "plain"], "is not NAME=VALUE"),
            (["--endpoint-url", "host:9000"], "--endpoint-url must be a URL"),
            (["--endpoint-url", "http://me:secret@host"], "--endpoint-url must not hold a user"),
        ],
    )
    def test_wrong_options_are_wrong_usage(self, options, message, tmp_path):
        target = "s3://bucket/key.tar"
        assert message in run("pack", str(tmp_path), target, *options, code=2).output


class TestCommands:
    """Each command with URLs, in an environment that knows no account."""

    @pytest.mark.parametrize(
        "arguments",
        [
            "ls {url}",
            "info {url}",
            "cat {url} 00.txt",
            "verify {url}",
            "verify {folder}",
            "extract {url} {here}/files",
            "extract {url} {folder}files/",
            "index {url} -o {folder}out.tar.idx",
            "offsets {url} -o {folder}rows.csv",
            "collect {folder} -o {folder}collection.idx",
            "merge {url} {folder}merged.tar",
            "subset {url} {folder}some.tar --filter 0*",
            "repack {url} {folder}again.tar --all",
            "append {url} {here}/new.txt --all",
            "pack {folder} {here}/objects.tar --all",
            "pack {here}/new.txt {folder}new.tar --all",
            "gallery {url} -o {folder}index.html",
            "cors s3://{bucket} --set",
            "uploads s3://{bucket}",
        ],
    )
    def test_it_takes_an_account(self, s3, url, profile, tmp_path, arguments):
        (tmp_path / "new.txt").write_bytes(b"new")
        folder, bucket = url.removesuffix("out.tar"), Location.parse(url).bucket
        given = [
            each.format(url=url, folder=folder, here=tmp_path, bucket=bucket)
            for each in arguments.split()
        ]
        run(*given, "--profile", profile, "--endpoint-url", s3.endpoint, "--region", s3.region)

    def test_the_overlay_of_serve_opens_blobs_with_it(self, s3, url):
        from blobpack.gateway.s3.overlay_blobs import Place, opened_at

        bucket, key, _ = Location.parse(url).s3_parts()
        kept = opened_at(Place(bucket, key), None, account(s3))
        assert kept.blob is not None
        assert kept.blob.find("00.txt") is not None

    def test_completion_takes_it(self, s3, url, profile):
        from blobpack.cli.completion.names import objects_at

        options = S3Options(profile=profile, endpoint_url=s3.endpoint)
        bucket = Location.parse(url).bucket
        assert objects_at(f"s3://{bucket}/se", Access(options)) == [f"s3://{bucket}/sets/"]
        assert f"s3://{bucket}/" in objects_at("s3://", Access(options))


class TestVersions:
    @pytest.fixture
    def versions(self, s3: S3Server, bucket: str) -> list[str]:
        """URLs of an old version of a blob, and of the latest one."""
        s3.client.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        for text in (b"old", b"new"):
            blobpack.pack({"a": text}, f"s3://{bucket}/out.tar", all_files=True)
        found = s3.client.list_object_versions(Bucket=bucket, Prefix="out.tar")["Versions"]
        ids = [one["VersionId"] for one in sorted(found, key=lambda one: one["IsLatest"])]
        return [f"s3://{bucket}/out.tar?versionId={id}" for id in ids]

    def test_each_version_is_read(self, versions):
        assert [blobpack.open(url).read("a") for url in versions] == [b"old", b"new"]
        # on our own connections, which sign the version
        with blobpack.open(versions[0]) as blob:
            assert b"?versionId=" in blob.store.ranged_get().head

    def test_it_goes_with_a_pickle(self, versions):
        with blobpack.open(versions[0]) as blob:
            assert pickle.loads(pickle.dumps(blob)).read("a") == b"old"

    def test_it_is_copied_and_verified(self, versions, tmp_path):
        assert blobpack.verify(versions[0]).ok
        blobpack.subset(versions[0], tmp_path / "a.tar", ["a"])
        assert blobpack.open(tmp_path / "a.tar").read("a") == b"old"

    def test_it_can_not_be_written(self, versions):
        for write in (
            lambda: blobpack.pack({"a": b""}, versions[0], all_files=True),
            lambda: blobpack.append(versions[0], {"b": b""}, all_files=True),
        ):
            with pytest.raises(ValueError, match="names a version of an object"):
                write()

    @pytest.mark.parametrize(
        "command",
        [
            "pack {here} {url}",
            "pack {here} {folder} --shard-size 1Mi",
            "append {url} {here}",
            "merge {blob} {url}",
            "subset {blob} {url}",
            "repack {blob} {url}",
            "extract {blob} {folder}",
            "index {blob} -o {url}",
            "offsets {blob} -o {url}",
            "collect {blob} -o {url}",
            "export coco {blob} -o {url}",
            "gallery {blob} -o {url}",
            "uploads {url}",
            "cors {bucket}",
        ],
    )
    def test_to_write_one_is_wrong_usage(self, command, tmp_path):
        blobpack.pack({"a": b"old"}, tmp_path / "a.tar", all_files=True)
        places = {
            "url": "s3://bucket/out.tar?versionId=1",
            "folder": "s3://bucket/set/?versionId=1",
            "bucket": "s3://bucket?versionId=1",
            "here": tmp_path,
            "blob": tmp_path / "a.tar",
        }
        said = run(*(each.format(**places) for each in command.split()), code=2).output
        assert "leave out ?versionId=" in said

    def test_a_key_that_ends_like_one_is_listed_read_and_written(self, s3, bucket, tmp_path):
        files = {"w": b"a", "w?versionId=1": b"b", "w?versionId=": b"c"}
        for name, payload in files.items():
            s3.put(bucket, f"set/{name}", payload)
        url = f"s3://{bucket}/out?versionId=2?versionId="
        blobpack.pack(f"s3://{bucket}/set/", url, all_files=True)
        assert "out?versionId=2" in s3.keys(bucket)
        assert dict(blobpack.open(url).items()) == files
        blobpack.extract(url, f"s3://{bucket}/copy/")
        assert {key: s3.stored(bucket, f"copy/{key}") for key in files} == files
        report = blobpack.pack(
            [f"s3://{bucket}/set/w?versionId=1?versionId="], tmp_path / "one.tar", all_files=True
        )
        assert list(report.index.names) == ["w?versionId=1"]

    def test_a_message_names_such_a_key_by_the_url_that_means_it(self, bucket):
        url = f"s3://{bucket}/none?versionId=1?versionId="
        with pytest.raises(blobpack.BlobNotFoundError, match=re.escape(f"{url}: no such")):
            blobpack.open_blob(url)

    def test_a_list_of_versions_is_packed_under_the_names_of_the_keys(self, versions, tmp_path):
        report = blobpack.pack(versions[:1], tmp_path / "list.tar", all_files=True)
        assert list(report.index.names) == ["out.tar"]

    def test_an_empty_version_is_the_latest_one(self, versions):
        """So a blob is not packed into itself."""
        url = versions[0].partition("?")[0]
        assert Location.parse(f"{url}?versionId=") == Location.parse(url)
        assert blobpack.open(f"{url}?versionId=").read("a") == b"new"

    def test_a_version_there_is_not_is_not_found(self, versions):
        url = versions[0].partition("?")[0]
        with pytest.raises(StorageError, match="versionId=nothing"):
            blobpack.open(f"{url}?versionId=nothing")


class TestArns:
    ARNS = (
        "arn:aws:s3:us-east-1:123456789012:accesspoint/my-ap",
        "arn:aws:s3:us-east-1:123456789012:accesspoint:my-ap",
    )

    @pytest.mark.parametrize("arn", ARNS)
    def test_both_spellings_lead_to_the_access_point(self, arn, no_aws):
        location = Location.parse(f"s3://{arn}/sets/out.tar")
        assert (location.bucket, location.key) == (arn, "sets/out.tar")
        assert location.folder.whole == f"s3://{arn}/sets/"
        options = S3Options(session=boto3.Session("a", "b"), region="us-east-1")
        bucket = Bucket(location.bucket, options=options)
        web_url = ObjectKey(bucket, location.key).web_url()
        host = "my-ap-123456789012.s3-accesspoint.us-east-1.amazonaws.com"
        assert web_url == f"https://{host}/sets/out.tar"

    def test_an_access_point_alone_is_a_place(self):
        location = Location.parse(f"s3://{self.ARNS[0]}", prefix=True)
        assert (location.bucket, location.key) == (self.ARNS[0], "")
        assert location.as_folder.below("a").key == "a"
        outpost = "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1/accesspoint/ap"
        assert Location.parse(f"s3://{outpost}/a/b").bucket == outpost


class TestPickled:
    def test_a_profile_is_looked_up_again(self, s3, url, profile):
        options = S3Options(profile=profile, endpoint_url=s3.endpoint)
        with blobpack.open(url, s3=options) as blob:
            pickled = pickle.dumps(blob)
        assert s3.secret_key.encode() not in pickled
        code = (
            "import pickle, sys\n"
            "blob = pickle.loads(sys.stdin.buffer.read())\n"
            "print(blob.read('07.txt')[:1].decode())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], input=pickled, capture_output=True, check=False
        )
        assert (done.stdout, done.stderr) == (b"7\n", b"")

    def test_collections_and_indexes_go_with_it(self, s3, url, profile):
        options = S3Options(profile=profile, endpoint_url=s3.endpoint)
        folder = url.removesuffix("out.tar")
        blobpack.collect(folder, s3=options)
        with blobpack.open(folder, s3=options) as collection:
            again = pickle.loads(pickle.dumps(collection))
            assert again.read("08.txt") == MEMBERS["08.txt"]
            assert len(pickle.loads(pickle.dumps(collection.index))) == len(MEMBERS)

    def test_a_session_is_refused(self, s3, url):
        with (
            blobpack.open(url, s3=account(s3)) as blob,
            pytest.raises(TypeError, match=r"session can't be pickled.*profile"),
        ):
            pickle.dumps(blob)

    def test_a_key_is_refused_and_its_file_is_not(self, tmp_path):
        with pytest.raises(TypeError, match=r"sse_c_key can't be pickled.*file"):
            pickle.dumps(S3Options(sse_c_key=bytes(32)))
        (tmp_path / "key").write_bytes(b"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=\n")
        options = S3Options(sse_c_key=tmp_path / "key")
        assert pickle.loads(pickle.dumps(options)) == options
        assert read_key(options) == b"12345678901234567890123456789012"
        assert "1234" not in repr(S3Options(sse_c_key=b"12345678901234567890123456789012"))


class TestSignatures:
    def test_accounts_do_not_share_signatures(self, s3, public_url):
        signatures = Signatures()
        bucket, key = Location.parse(public_url).s3_parts()[:2]
        heads = [
            signatures.ranged_get_of(ObjectKey(Bucket(bucket, options=options), key), '"a"').head
            for options in (account(s3), anonymous(s3))
        ]
        assert [b"Authorization" in head for head in heads] == [True, False]


@pytest.fixture
def faults_elsewhere(s3: S3Server) -> Any:
    """A proxy in front of the S3 server that the environment does not know."""
    with FaultServer(s3.endpoint) as proxy:
        yield proxy
