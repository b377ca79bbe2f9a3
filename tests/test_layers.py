"""Imports point down the ladder, and the public face is what it says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import blobpack
from blobpack.lazy import HOME_OF

PACKAGE = Path(blobpack.__file__).parent

# the ladder, lowest first; modules on one rung may not import one another unless they are one thing
LADDER = [
    {"errors", "lazy"},
    {"_native"},
    {"model"},
    {
        "atomic",
        "checksum",
        "choices",
        "columns",
        "locks",
        "names",
        "plan",
        "processors",
        "stats",
        "zstdseek",
    },
    {"stores", "tarformat"},
    {"identity", "readahead", "splice", "suggestions", "wholelookup"},
    {"indexfile", "output", "selection", "shards", "sources", "tables"},
    {"indexparts", "indexwriter", "localindex", "objects", "slices"},
    {"remoteindex"},
    {"stored"},
    {"rows"},
    {"index", "manifest"},
    {"facts"},
    {"offsets", "scan"},
    {"compress", "discovery", "embed", "fetch", "tarstream"},
    {"reader"},
    {"blobstate", "blob", "blobfile", "joining", "openshard", "reports", "structure", "targets"},
    {"inputs"},
    {"archive", "cutting", "duplicates"},
    {"appending", "newblob", "shardfolder"},
    {"remoteappend", "localappend"},
    {"collection"},
    {"extract", "image", "pack", "verify"},
    {"append", "combine", "repack"},
    {"collect"},
    {"sharded"},
    {"cli"},
]
RUNG = {module: rung for rung, modules in enumerate(LADDER) for module in modules}
MODULES = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix()
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
)


def imported(path: Path) -> set[str]:
    """The blobpack modules, by their first part, that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("blobpack.")}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_the_ladder(module):
    own = module.split("/")[0]
    for other in imported(PACKAGE / f"{module}.py") - {own}:
        if own == "cli" and other == "pack":  # `from blobpack import pack`, the function
            continue
        assert RUNG[other] < RUNG[own], f"{module} imports {other}"


def test_every_module_has_its_rung():
    assert {module.split("/")[0] for module in MODULES} <= RUNG.keys()


def test_only_the_s3_store_imports_boto3():
    users = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if "import boto3" in path.read_text() or "from botocore" in path.read_text()
    ]
    assert users == ["s3.py"]


def test_all_is_sorted_and_complete():
    assert blobpack.__all__ == sorted(blobpack.__all__, key=lambda name: (name[0].islower(), name))
    assert all(hasattr(blobpack, name) for name in blobpack.__all__)


def test_import_brings_no_heavy_package():
    code = (
        "import sys, blobpack\n"
        "heavy = {'boto3', 'botocore', 'numpy', 'PIL', 'tqdm', 'click', 'zstandard', 'pyarrow', 'pandas'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_stub_of_the_face_and_the_homes_of_its_names_agree():
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text())
    homes = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes == {name: f"blobpack.{home}" for name, home in HOME_OF.items()}
    assert set(homes) == set(blobpack.__all__) <= set(dir(blobpack))


def test_a_module_does_not_hide_the_function_of_its_name():
    code = (
        "import blobpack, blobpack.pack, blobpack.scan, blobpack.stats\n"
        "from blobpack.editing.append import append\n"
        "from blobpack import collect\n"
        "import blobpack.verify as verify\n"
        "print(*(callable(f) for f in (blobpack.pack, blobpack.scan, blobpack.stats, blobpack.append,"
        " collect, verify)))\n"
        "print(type(blobpack.embed).__name__, hasattr(blobpack, 'nothing'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 6 + ["module", "False"]
