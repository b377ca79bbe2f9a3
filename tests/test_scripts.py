"""The scripts are well-formed, and say plainly what they cannot do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BASH_SCRIPTS = sorted(
    path
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]
    if path.is_file() and (path.suffix == ".sh" or b"bash" in path.read_bytes().partition(b"\n")[0])
)


def run(*command, **options):
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, timeout=60, **options
    )


def test_there_are_scripts():
    assert {"setup", "demo", "test", "check"} <= {path.name for path in BASH_SCRIPTS}


@pytest.mark.parametrize("script", BASH_SCRIPTS, ids=lambda path: path.name)
def test_bash_can_parse_it(script):
    done = run("bash", "-n", script)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["s3-server"],
        ["s3-server", "begin", "folder"],
        ["s3-server", "stop", "folder", "8000"],
        ["fresh"],
        ["fresh", "--help"],
        ["fresh", "trixie", "no such script"],
        ["test", "--servers", "no such server"],
        ["test", "--servers", "moto", "no such server", "--", "-x"],
        ["test", "--tools", "no such tool"],
        ["test", "--tools", "awscli", "no such tool", "--", "-x"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(arguments, tmp_path):
    done = run(ROOT / "scripts" / arguments[0], *arguments[1:], cwd=tmp_path)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
    assert not list(tmp_path.iterdir())


def path_with(folder, *programs):
    """A PATH that leads to these programs and to no others."""
    for program in programs:
        (folder / program).symlink_to(shutil.which(program))
    return {"PATH": str(folder)}


def test_an_s3_server_that_cannot_be_installed_is_status_3_and_named(tmp_path):
    (tmp_path / "bin").mkdir()
    env = path_with(tmp_path / "bin", "bash", "dirname", "mkdir", "realpath", "sort")
    done = run(ROOT / "scripts" / "s3-server", "start", tmp_path / "s3", env=env)
    assert done.returncode == 3
    assert all(package in done.stderr for package in ["radosgw", "ceph-osd", "ceph-mon"])
    assert not done.stdout


@pytest.mark.parametrize(
    ("there", "missing"), [((), "7zip\nnode-tar-stream\n"), (("7z",), "node-tar-stream\n")]
)
def test_one_name_of_a_program_suffices(there, missing, tmp_path):
    """7-Zip has another name in Debian 13 than in Debian 12."""
    for program in ("sort", "bash"):
        (tmp_path / program).symlink_to(shutil.which(program))
    for program in there:
        (tmp_path / program).symlink_to("sort")
    code = (
        f". {ROOT}/scripts/steps.sh\n"
        'declare -A TABLE=(["7zz 7z"]=7zip [/nowhere/tar-stream]=node-tar-stream [/]=base-files [bash]=bash)\n'
        "missing_packages TABLE"
    )
    done = run("bash", "-c", code, env={"PATH": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr) == (0, missing, "")


def test_setup_refuses_a_python_that_is_too_old(tmp_path):
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "_native").mkdir()
    for name in ["pyproject.toml", "setup.py"]:
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "old-python"
    old.write_text(
        "#!/bin/sh\nexit 1\n"
    )  # as Python 3.10 answers to the question whether it is 3.11
    old.chmod(0o755)
    done = run(tmp_path / "scripts" / "setup", env=os.environ | {"PYTHON": str(old)})
    assert done.returncode == 1
    assert "Python 3.11 or later" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_pip_is_never_asked_for_blobpack_by_name():
    """The package of this name on PyPI is another one."""
    command = "source scripts/steps.sh; requirements test check bench demo"
    done = run("bash", "-euc", command, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split()
    assert not [line for line in lines if line.startswith("blobpack")]
    assert any(line.startswith("mkdocs") for line in lines), "the extra docs, which test includes"
    assert any(line.startswith("numpy") for line in lines)
