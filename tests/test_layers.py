"""Imports point down the ladder of wings, and the public names are what they say."""

import ast
import importlib
import pickle
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import cloudpickle
import pytest

import blobpack

PACKAGE = Path(blobpack.__file__).parent

# from top to bottom: a wing imports itself and what stands in lower lines
LADDER = """
    cli
    gateway integrations
    editing
    packing
    collection
    reading writing
    opening
    foreign
    tar
    index
    indexfile argument_order
    stores
    columns plan checksum
    look_ahead recently_used asked_members
    model threads quoting progress
    wording
    _native
    errors closing
"""
FLOOR = {
    wing: -line for line, wings in enumerate(LADDER.strip().splitlines()) for wing in wings.split()
}
MODULES = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix()
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
)
MODULES_MAX = 14  # in one folder
UNBOUNDED = {"cli/commands"}  # one file for each command
USERS_EXTRAS = ("arrow", "clouds", "fsspec", "pandas", "serve")


def imported(path: Path) -> set[str]:
    """The wings that a file imports anywhere; `from blobpack import name` is the public face, on top of all."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("blobpack.")}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_the_ladder(module):
    own = module.split("/")[0]
    for other in imported(PACKAGE / f"{module}.py") - {own}:
        assert FLOOR[other] < FLOOR[own], f"{module} imports {other}"


def test_only_the_command_line_imports_the_public_face():
    users = {
        module.split("/")[0]
        for module in MODULES
        for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text()))
        if (isinstance(node, ast.ImportFrom) and node.module == "blobpack")
        or (isinstance(node, ast.Import) and "blobpack" in [alias.name for alias in node.names])
    }
    assert users <= {"cli"}


def test_no_folder_holds_more_modules_than_one_can_take_in():
    folders = {}
    for module in MODULES:
        folder, _, name = module.rpartition("/")
        folders.setdefault(folder, []).append(name)
    counts = {folder: len(set(names) - {"__init__"}) for folder, names in folders.items()}
    assert len(counts) > 10
    assert {folder for folder, count in counts.items() if count > MODULES_MAX} <= UNBOUNDED


def test_every_folder_says_what_lives_in_it():
    for path in PACKAGE.rglob("__init__.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        # a folder with a list of public names is a face, as the package itself is
        is_face = path.with_suffix(".pyi").exists()
        assert is_face or len(tree.body) == 1, f"{path} holds more than a docstring"


def test_every_package_that_is_imported_at_once_is_a_dependency():
    """An environment for development holds more packages than a user's, such as those of type checkers."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(line for extra in USERS_EXTRAS for line in extras[extra])]
    names = {re.match(r"[\w-]+", line)[0].lower().replace("-", "_") for line in needed}
    # botocore is boto3's own; PIL is Pillow
    known = {*sys.stdlib_module_names, "blobpack", "botocore", "pil", *names}
    for module in MODULES:
        # an integration needs the package that it is for
        if not module.startswith("integrations/"):
            assert packages_at_once(PACKAGE / f"{module}.py") <= known, module


def packages_at_once(path: Path) -> set[str]:
    """Return the packages that a module imports while it is loaded."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0].lower())
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0].lower() for alias in node.names}
    return found


def test_a_gateway_and_integrations_never_import_each_other():
    wings = ("gateway", "integrations")
    for module in MODULES:
        own = module.split("/")[0]
        if own in wings:
            assert imported(PACKAGE / f"{module}.py") & set(wings) <= {own}, module


def test_only_stores_s3_imports_boto3():
    users = {
        path.parent.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "import boto3" in path.read_text() or "from botocore" in path.read_text()
    }
    assert users == {"stores/s3"}


def test_only_stores_clouds_imports_obstore():
    users = {
        path.parent.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^\s*(import|from) obstore\b", path.read_text(), re.MULTILINE)
    }
    assert users == {"stores/clouds"}


def test_the_public_names_can_all_be_loaded_and_are_sorted():
    assert blobpack.__all__ == sorted(blobpack.__all__)
    assert all(hasattr(blobpack, name) for name in blobpack.__all__)
    assert blobpack.__all__ == dir(blobpack)
    assert not hasattr(blobpack, "nothing")


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert blobpack.__version__ == version("blobpack")


def test_import_loads_no_heavy_package():
    code = (
        "import sys, blobpack\n"
        "heavy = {'boto3', 'botocore', 'numpy', 'PIL', 'tqdm', 'click', 'zstandard', 'pyarrow', 'pandas', 'simplejpeg', 'obstore', 'fsspec'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("used_before", [True, False])
def test_a_function_that_mentions_the_package_goes_to_another_process(used_before, tmp_path):
    """Ray, Dask, joblib and Spark pickle functions so."""
    if used_before:
        assert blobpack.scan
    path = tmp_path / "function"
    function = lambda: (blobpack.scan.__name__, blobpack.Index.__name__)  # noqa: E731
    function.__module__ = "__main__"  # so that it is pickled by value
    path.write_bytes(cloudpickle.dumps(function))
    code = f"import pickle; print(*pickle.loads(open({str(path)!r}, 'rb').read())())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["scan", "Index"]
    assert pickle.loads(pickle.dumps(blobpack.scan)) is blobpack.scan


@pytest.mark.parametrize(
    "path",
    [
        path
        for folder in ("scripts", "bench")
        for path in sorted((PACKAGE.parent / folder).rglob("*.py"))
    ],
    ids=lambda path: path.name,
)
def test_what_programs_beside_the_package_import_is_there(path: Path) -> None:
    """mypy looks at the package alone, and most of these programs run in no test."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "blobpack":
            # of PyTorch and Ray: their environments run these
            with suppress(blobpack.errors.PackageMissingError):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")
