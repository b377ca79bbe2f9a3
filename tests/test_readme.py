"""What the README shows, works: its Python and its blobpack commands are run here as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import blobpack

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [line for language, code in BLOCKS if language == "sh" for line in code.splitlines()]


def make_png(i):
    import io

    out = io.BytesIO()
    Image.new("RGB", (8, 8), (i, i, i)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with imgs/ and more/, as the README supposes."""
    for i in range(3):
        path = tmp_path / "imgs" / "cats" / f"{i:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10), (i, 100, 200)).save(path)
    (tmp_path / "imgs" / "cats" / "0000_mask.png").write_bytes(make_png(1))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "new.png").write_bytes(make_png(2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_two_commands_are_demo_and_test():
    assert [line.split("#")[0].strip() for line in SHELL[:2]] == ["scripts/demo", "scripts/test"]
    assert all((ROOT / line.split()[0]).exists() for line in SHELL[:2])


def run_local_commands():
    """Run the README's blobpack commands that need no S3, as a shell would."""
    bin_folder = Path(sys.executable).parent
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    for line in SHELL:
        if line.startswith("blobpack ") and "s3://" not in line:
            subprocess.run(["sh", "-ec", line], check=True, env=os.environ | {"PATH": path})


def test_the_python_and_the_commands_run(folder, s3_env):
    run_local_commands()
    assert list(blobpack.read_offsets("out_offsets.pkl").names) == [
        f"cats/000{i}.jpg" for i in range(3)
    ]
    bucket = s3_env.new_bucket()
    s3_env.client.upload_file("out.tar", bucket, "out.tar")
    names = {"make_png": make_png}
    for code in PYTHON:
        exec(compile(code.replace("s3://bucket/", f"s3://{bucket}/"), "README.md", "exec"), names)
    assert names["pixels"].shape == (10, 20, 3)
    assert names["report"].members == 3


def test_the_s3_commands_run(folder, s3_env):
    blobpack.pack("imgs", "out.tar")
    blobpack.write_offsets(blobpack.scan("out.tar"), "out_offsets.pkl")
    bucket = s3_env.new_bucket()
    for key in ("out.tar", "foreign.tar"):
        s3_env.client.upload_file("out.tar", bucket, key)
    for path in Path("imgs").rglob("*.*"):
        s3_env.put(bucket, path.as_posix(), path.read_bytes())
    lines = [
        line.replace("s3://bucket/", f"s3://{bucket}/") for line in SHELL if "s3://bucket" in line
    ]
    ours = [line for line in lines if line.startswith("blobpack ")]
    assert ours
    for line in ours:
        command = shlex.split(line.partition(">")[0], comments=True)
        command[0] = str(Path(sys.executable).with_name("blobpack"))
        done = subprocess.run(command, capture_output=True, check=True)
        if command[1] == "cat":
            assert done.stdout == Path("imgs/cats/0001.jpg").read_bytes()
    for image in Path("imgs").rglob("*.jpg"):
        assert Path("out", image.relative_to("imgs")).read_bytes() == image.read_bytes()
    assert Path("cache").is_dir()


def test_every_command_is_named():
    from blobpack.cli.main import main

    for command in main.commands:
        assert re.search(
            rf"`(?:blobpack )?{command}\b|^blobpack {command} ", README, re.MULTILINE
        ), command
