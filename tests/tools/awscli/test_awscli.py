"""The AWS CLI reads what blobpack writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import blobpack

AWS = Path(sys.executable).with_name("aws")


def aws(env, *arguments):
    done = subprocess.run(
        [AWS, *map(str, arguments)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_blob_in_s3_is_listed_and_copied(s3, small_images, tmp_path):
    bucket = s3.new_bucket()
    blobpack.pack(small_images.items(), tmp_path / "out.tar")
    s3.put(bucket, "out.tar", (tmp_path / "out.tar").read_bytes())
    assert aws(s3.env(), "s3", "ls", f"s3://{bucket}/").split()[-1] == "out.tar"
    aws(s3.env(), "s3", "cp", f"s3://{bucket}/out.tar", tmp_path / "copy.tar")
    assert (tmp_path / "copy.tar").read_bytes() == (tmp_path / "out.tar").read_bytes()
