"""A wheel built by scripts/wheel, from the sdist, does the main job in a clean environment."""

import os
import re
import subprocess
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
assert (here / "gateway" / "static" / "blobpack.js").exists()
"""


def run(*command, cwd, **environment):
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What scripts/wheel prints, and the folder with the sdist and the wheel; no warning is let through."""
    out = tmp_path_factory.mktemp("dist")
    # the compiler is told -pthread and -c at once, of which it needs one or the other
    flags = "-Werror -Wno-unused-command-line-argument"
    return run(ROOT / "scripts" / "wheel", out, cwd=out, CFLAGS=flags), out


@pytest.fixture(scope="module")
def built(printed):
    return printed[1]


def test_the_wheel_is_one_for_every_python_and_for_old_systems(printed):
    tag, out = printed
    (wheel,) = out.glob("*.whl")
    assert wheel.name.endswith(f"-{tag.strip()}.whl")
    assert tag.startswith("cp311-abi3-")
    assert "manylinux_2_17_" in tag


def test_every_native_module_is_in_the_wheel_and_needs_no_newer_glibc(built):
    import zipfile

    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        modules = {
            Path(name).name.partition(".")[0]: archive.read(name)
            for name in archive.namelist()
            if name.endswith(".abi3.so")
        }
    assert modules.keys() >= {path.stem for path in (ROOT / "_native").rglob("*.pyx")}
    for name, module in modules.items():
        versions = re.findall(rb"GLIBC_2\.(\d+)", module)
        assert max(map(int, versions)) <= 17, name


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
