"""A wheel built from the sdist, in a clean environment, does the main job."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SMOKE = """
import pathlib, sys, blobpack
assert "site-packages" in blobpack.__file__, blobpack.__file__
png = b"\\x89PNG\\r\\n\\x1a\\n" + bytes(99)
report = blobpack.pack([("a.png", png), ("b/c.png", png)], "o.tar")
index = blobpack.scan("o.tar")
assert index == report.index
blobpack.write_offsets(index.select("b/*"), "o.pkl")
with blobpack.open_blob("o.tar", index="o.pkl") as blob:
    assert blob.read("b/c.png") == png
here = pathlib.Path(blobpack.__file__).parent
assert (here / "py.typed").exists() and (here / "_native" / "scan.pyi").exists()
"""


def run(*command, cwd):
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist and the wheel made from it: `build` makes the one from the other."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, ROOT, cwd=out)
    return out


def test_the_wheel_is_one_for_every_python(built):
    (wheel,) = built.glob("*.whl")
    assert "-cp311-abi3-" in wheel.name


def test_the_wheel_does_the_main_job_in_a_clean_environment(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    run(python, "-I", "-c", SMOKE, cwd=tmp_path)
    assert (
        run(tmp_path / "venv" / "bin" / "blobpack", "ls", "o.tar", cwd=tmp_path)
        == "a.png\nb/c.png\n"
    )


def test_the_sdist_holds_the_native_sources_and_no_generated_c(built):
    import tarfile

    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    natives = {path.relative_to(ROOT).as_posix() for path in (ROOT / "_native").rglob("*.p[xy]?")}
    assert natives <= names
    assert not any(name.endswith(".c") for name in names)
