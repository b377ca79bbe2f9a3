"""Sources on one S3 server and the target on another, in one call and in one command: Ceph RGW and localbucket."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from servers import SERVERS
from test_accounts import account

import blobpack
from blobpack import BlobChangedError
from blobpack.cli.main import main
from blobpack.stores.access.remote import Access
from blobpack.stores.location import Location
from blobpack.stores.s3.upload import uploading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from s3server import Endpoint, S3Server

FILES = {f"{number:02}.txt": b"%d" % number * 300 for number in range(6)}
NEW = {"new.txt": b"new" * 50}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Another server, with another user."""
    with SERVERS["localbucket"](tmp_path_factory.mktemp("other")) as server:
        yield server
        server.close()


@pytest.fixture
def bucket(s3: S3Server, other: Endpoint, no_aws: None) -> str:
    """A bucket of the same name on both servers; only that of Ceph RGW holds files, blobs and a tar."""
    name = s3.new_bucket()
    other.client.create_bucket(Bucket=name)
    for key, payload in FILES.items():
        s3.put(name, f"files/{key}", payload)
    blobpack.pack(FILES, f"s3://{name}/out.tar", all_files=True, s3=account(s3))
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for key, payload in FILES.items():
            info = tarfile.TarInfo(key)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    s3.put(name, "foreign.tar.gz", file.getvalue())
    return name


def pack(bucket: str, target: str, **both: Any) -> None:
    blobpack.pack(f"s3://{bucket}/files/", target, all_files=True, **both)


def pack_listed(bucket: str, target: str, **both: Any) -> None:
    listed = [f"{name}" for name in FILES]
    blobpack.pack(listed, target, all_files=True, directory=f"s3://{bucket}/files", **both)


def pack_shards(bucket: str, target: str, **both: Any) -> None:
    folder = target.removesuffix("made.tar")
    blobpack.pack_shards(f"s3://{bucket}/files/", folder, 2000, all_files=True, **both)


def append(bucket: str, target: str, **both: Any) -> None:
    blobpack.pack({"00.txt": FILES["00.txt"]}, target, all_files=True, s3=both["s3"])
    blobpack.append(*(target, f"s3://{bucket}/files/"), all_files=True, exclude=["00.txt"], **both)


def merge(bucket: str, target: str, **both: Any) -> None:
    blobpack.merge([f"s3://{bucket}/out.tar"], target, **both)


def subset(bucket: str, target: str, **both: Any) -> None:
    blobpack.subset(f"s3://{bucket}/out.tar", target, list(FILES), **both)


def repack(bucket: str, target: str, **both: Any) -> None:
    blobpack.repack(f"s3://{bucket}/foreign.tar.gz", target, all_files=True, **both)


@pytest.mark.parametrize("copy", [pack, pack_listed, pack_shards, append, merge, subset, repack])
def test_a_function_copies_from_one_server_to_another(
    copy: Callable[..., None], s3: S3Server, other: Endpoint, bucket: str
) -> None:
    before = s3.keys(bucket)
    copy(bucket, f"s3://{bucket}/new/made.tar", s3=account(other), source_s3=account(s3))
    where = "new/" if copy is pack_shards else "new/made.tar"
    with blobpack.open(f"s3://{bucket}/{where}", s3=account(other)) as blob:
        assert dict(blob.items()) == FILES
    assert s3.keys(bucket) == before


def test_members_are_extracted_to_another_server(
    s3: S3Server, other: Endpoint, bucket: str
) -> None:
    blobpack.extract(
        *(f"s3://{bucket}/out.tar", f"s3://{bucket}/members"),
        s3=account(other),
        source_s3=account(s3),
    )
    assert other.keys(bucket) == [f"members/{name}" for name in FILES]


def test_a_blob_is_copied_to_its_own_url_elsewhere(
    s3: S3Server, other: Endpoint, bucket: str
) -> None:
    """On one server, the target would be one of the sources."""
    merge(bucket, f"s3://{bucket}/out.tar", s3=account(other), source_s3=account(s3))
    with blobpack.open(f"s3://{bucket}/out.tar", s3=account(other)) as blob:
        assert dict(blob.items()) == FILES
    with pytest.raises(blobpack.StorageError, match="a source is read from this file"):
        merge(bucket, f"s3://{bucket}/out.tar", s3=account(s3))


def test_without_it_sources_are_reached_as_the_target_is(
    s3: S3Server, other: Endpoint, bucket: str
) -> None:
    with pytest.raises(blobpack.SourceError):
        pack(bucket, f"s3://{bucket}/new.tar", s3=account(other))
    assert other.keys(bucket) == []
    # an open blob keeps its own
    with blobpack.open(f"s3://{bucket}/out.tar", s3=account(s3)) as blob:
        blobpack.subset(blob, f"s3://{bucket}/new.tar", list(FILES), s3=account(other))
    assert other.keys(bucket) == ["new.tar"]


@pytest.fixture
def profiles(
    s3: S3Server, other: Endpoint, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profiles `there`, of Ceph RGW, and `here`, of the other server, with their endpoints."""
    config = tmp_path / "config"
    config.write_text(
        "".join(
            f"[profile {name}]\naws_access_key_id = {server.access_key}\nregion = us-east-1\n"
            f"aws_secret_access_key = {server.secret_key}\nendpoint_url = {server.endpoint}\n"
            for name, server in (("there", s3), ("here", other))
        )
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))


def run(*arguments: str, code: int = 0) -> str:
    """Run a command line, and return what it printed."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.usefixtures("profiles")
@pytest.mark.parametrize(
    "arguments",
    [
        "pack {there}files/ {here}made.tar --all",
        "pack -C {there}files 00.txt 01.txt 02.txt 03.txt 04.txt 05.txt {here}made.tar --all",
        "pack --manifest {list} {here}made.tar --all --strip 1",
        "merge {there}out.tar {here}made.tar",
        "subset {there}out.tar {here}made.tar --filter *",
        "repack {there}foreign.tar.gz {here}made.tar --all",
        "extract {there}out.tar {here}files",
        "append {here}some.tar {there}files/ --all",
    ],
)
def test_a_command_copies_from_one_server_to_another(
    arguments: str, s3: S3Server, other: Endpoint, bucket: str, tmp_path: Path
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"s3://{bucket}/files/{name}\n" for name in FILES))
    blobpack.pack(NEW, f"s3://{bucket}/some.tar", all_files=True, s3=account(other))
    place = f"s3://{bucket}/"
    given = [each.format(there=place, here=place, list=listed) for each in arguments.split()]
    run(*given, "--profile", "here", "--source-profile", "there")
    if "extract" in arguments:
        made = {name: other.stored(bucket, f"files/{name}") for name in FILES}
    else:
        name = "some.tar" if "append" in arguments else "made.tar"
        with blobpack.open(f"{place}{name}", s3=account(other)) as blob:
            made = dict(blob.items())
    assert made == FILES | (NEW if "append" in arguments else {})


@pytest.mark.usefixtures("profiles")
def test_any_option_of_the_sources_stands_for_all(
    s3: S3Server, other: Endpoint, bucket: str
) -> None:
    """Sources do not get a profile from the target, and an endpoint for themselves."""
    given = ("merge", f"s3://{bucket}/out.tar", f"s3://{bucket}/made.tar", "--profile", "here")
    said = run(*given, "--source-endpoint-url", s3.endpoint, code=1)
    assert "no AWS credentials" in said
    said = run(*given, "--source-endpoint-url", "host:9000", code=2)
    assert "--source-endpoint-url must be a URL" in said


@pytest.mark.usefixtures("profiles")
def test_a_list_alone_is_reached_by_the_options(bucket: str, tmp_path: Path) -> None:
    """No SRC brings the account: the list names URLs only."""
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"s3://{bucket}/files/{name}\n" for name in FILES))
    target = str(tmp_path / "out.tar")
    run("pack", "--manifest", str(listed), target, "--all", "--profile", "there")
    assert len(blobpack.open(target).index) == len(FILES)


def test_it_must_be_options(bucket: str) -> None:
    with pytest.raises(TypeError, match="source_s3 must be S3Options"):
        pack(bucket, f"s3://{bucket}/new.tar", source_s3={"anonymous": True})


def test_a_server_that_ignores_a_condition_replaces_nothing(other, bucket):
    """localbucket ignores If-Match of PutObject."""
    other.put(bucket, "key", b"theirs")
    location = Location.parse(f"s3://{bucket}/key", access=Access(account(other)))
    with pytest.raises(BlobChangedError), uploading(location, replaces='"other"') as upload:
        upload.write(b"ours")
    assert other.stored(bucket, "key") == b"theirs"
