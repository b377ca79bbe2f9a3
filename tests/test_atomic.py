"""An output takes its place whole, or not at all."""

import os

import pytest

from blobpack import StorageError
from blobpack.stores.output import replacing


def test_the_file_appears_only_at_the_end(tmp_path):
    with replacing(tmp_path / "f") as file:
        file.write(b"new")
        assert not (tmp_path / "f").exists()
    assert (tmp_path / "f").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


def test_an_error_leaves_the_old_file(tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "f") as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_folder_is_not_replaced(tmp_path):
    with pytest.raises(StorageError, match="not a plain file"), replacing(tmp_path):
        pass


def test_the_umask_rules(tmp_path):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "f"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "name", ["a" * 255, "é" * 127, "\N{CAT FACE}" * 63, "é" * 100 + "a" * 55], ids=len
)
def test_names_may_be_as_long_as_the_file_system_allows(name, tmp_path):
    with replacing(tmp_path / name) as file:
        file.write(b"new")
    assert os.listdir(tmp_path) == [name]
