"""The rights that each command needs: with those of the docs it succeeds, and without one of them it names that one.

Ceph RGW enforces the policy of a bucket for a second user.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from click.testing import CliRunner
from s3server import forget_clients

import blobpack
from blobpack.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3server import Endpoint, S3Server

PAGE = Path(__file__).parents[1] / "docs" / "guides" / "rights.md"
RIGHT = re.compile(r"`(s3:\w+)`")
# RGW lets the owner of an upload list its parts without this right, and the owner of an object read it. A bucket of AWS
# owns its objects by itself.
NOT_ENFORCED = {("--resume", "s3:ListMultipartUploadParts"), ("--shard-size", "s3:GetObject")}


class Row(NamedTuple):
    """A row of the page's table: a command, the rights that it needs, and those that it only uses."""

    command: str
    needed: list[str]
    used: list[str]


def rows() -> Iterator[Row]:
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `blobpack "):
            command, needed, used = line.strip("|").split(" | ")
            yield Row(command.strip(" `"), RIGHT.findall(needed), RIGHT.findall(used))


ROWS = list(rows())


@pytest.fixture(scope="session")
def user(s3: S3Server) -> Endpoint:
    """A user who may do what the policies of buckets allow."""
    return s3.new_user()


@pytest.fixture
def place(s3_env: S3Server, bucket: str, small_images: dict[str, bytes], tmp_path: Path) -> Path:
    """A folder and a bucket with what the commands of the page read."""
    for name, payload in small_images.items():
        (tmp_path / "imgs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "imgs" / name).write_bytes(payload)
        s3_env.put(bucket, f"loose/{name}", payload)
    blobpack.pack(tmp_path / "imgs", f"s3://{bucket}/out.tar")
    blobpack.pack(tmp_path / "imgs", f"s3://{bucket}/foreign.tar", index="none")
    blobpack.pack({"a.jpg": b"a"}, f"s3://{bucket}/beside.tar", index="sidecar", all_files=True)
    blobpack.pack_shards(tmp_path / "imgs", f"s3://{bucket}/set/", 4096)
    blobpack.pack(tmp_path / "imgs" / "cats" / "0001.jpg", tmp_path / "more.tar")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "new.jpg").write_bytes(small_images["cats/0001.jpg"])
    return tmp_path


def allow(s3: S3Server, bucket: str, user: Endpoint, rights: list[str]) -> None:
    """Allow a user to do this, and nothing else, in a bucket."""
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": [f"arn:aws:iam:::user/{user.access_key}"]},
                "Action": rights,
                "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
            }
        ],
    }
    if rights:
        s3.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    else:
        s3.client.delete_bucket_policy(Bucket=bucket)


def ran(command: str, bucket: str) -> tuple[int, str]:
    """Run a command of the page; return its status and its output."""
    arguments = shlex.split(command.replace("s3://bucket", f"s3://{bucket}"))[1:]
    forget_clients()
    done = CliRunner().invoke(main, arguments)
    return done.exit_code, done.output


def as_user(user: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in user.settings().items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.command)
def test_the_rights_of_the_page_suffice(row, s3_env, bucket, place, user, monkeypatch):
    monkeypatch.chdir(place)
    as_user(user, monkeypatch)
    allow(s3_env, bucket, user, row.needed)
    status, said = ran(row.command, bucket)
    assert status == 0, said


@pytest.mark.parametrize(
    ("row", "missing"),
    [
        (row, right)
        for row in ROWS
        for right in row.needed
        if not any(option in row.command and right == free for option, free in NOT_ENFORCED)
    ],
    ids=lambda value: value.command if isinstance(value, Row) else value,
)
def test_without_one_the_message_names_it(row, missing, s3_env, bucket, place, user, monkeypatch):
    monkeypatch.chdir(place)
    as_user(user, monkeypatch)
    allow(s3_env, bucket, user, [right for right in row.needed if right != missing])
    before = {key: s3_env.stored(bucket, key) for key in s3_env.keys(bucket)}
    status, said = ran(row.command, bucket)
    assert status == 1, said
    assert missing in said
    assert len(said.strip().splitlines()) <= 2, said
    # What was there before is still there. The index file beside a blob goes before the blob is replaced.
    del before["beside.tar.idx"]
    assert {key: s3_env.stored(bucket, key) for key in before} == before


@pytest.mark.parametrize("row", [row for row in ROWS if row.used], ids=lambda row: row.command)
def test_a_right_that_is_only_used_harms_nothing(row, s3_env, bucket, place, user, monkeypatch):
    monkeypatch.chdir(place)
    as_user(user, monkeypatch)
    allow(s3_env, bucket, user, row.needed + row.used)
    status, said = ran(row.command, bucket)
    assert status == 0, said
    assert not s3_env.uploads(bucket)


def test_the_page_has_the_commands_that_write_to_s3():
    named = {row.command.split()[1] for row in ROWS}
    assert named <= {*main.commands}
    writers = {"append", "collect", "cors", "extract", "gallery", "index", "merge", "offsets"}
    assert named >= writers | {"pack", "repack", "subset", "uploads"}


def test_the_policy_of_the_page_suffices(s3_env, bucket, place, user, monkeypatch):
    block = PAGE.read_text().partition("```text\n")[2].partition("```")[0]
    policy = json.loads(block.replace("arn:aws:s3:::bucket", f"arn:aws:s3:::{bucket}"))
    for statement in policy["Statement"]:
        statement["Principal"] = {"AWS": [f"arn:aws:iam:::user/{user.access_key}"]}
    s3_env.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    monkeypatch.chdir(place)
    as_user(user, monkeypatch)
    status, said = ran("blobpack append s3://bucket/out.tar more/", bucket)
    assert status == 0, said
    assert ran("blobpack append s3://bucket/foreign.tar more/", bucket)[0] == 1
