"""A user's script with the public types: mypy and pyright check it in scripts/check, and pytest runs it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, assert_type

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import blobpack
from blobpack import Blob, Collection, Index, Member

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    file = io.BytesIO()
    Image.new("RGB", (4, 3)).save(file, "PNG")
    for number in range(2):
        blobpack.pack([(f"{number}.png", file.getvalue())], tmp_path / f"{number}.tar")
    return tmp_path


def test_readers(folder: Path) -> None:
    with blobpack.open(folder) as reader:
        assert_type(reader, Blob | Collection)
        assert_type(reader["0.png"], bytes)
        assert_type(reader.get(0), bytes | None)
        assert_type(reader.get("none", b""), bytes)
        assert_type(reader.get("none", 5), bytes | int)
        assert_type(next(iter(reader)), str)
        assert_type(reader.keys()[0], str)
        assert_type([*reader.items()], list[tuple[str, bytes]])
        assert_type(dict(reader), dict[str, bytes])
        assert_type([(blob.url, blob.rows) for blob in reader.blobs], list[tuple[str, int]])
        assert_type([*reader.read_rows(np.array([0, 1]))], list[bytes])
        assert_type([*reader.read_rows(np.array([True, False]))], list[bytes])
        assert_type([*reader.read_rows(range(2))], list[bytes])
        assert_type([*reader.read_many(reader.index)], list[bytes])
        assert_type([*reader.read_many(["0.png", "1.png"])], list[bytes])
        mixed: list[str | Member | int] = ["0.png", reader.index[0], -1]
        assert_type([*reader.read_many(mixed)], list[bytes])
        assert_type(blobpack.read_image(reader, 0), NDArray[np.uint8])
        assert_type(blobpack.read_images(reader, mixed), Iterator[NDArray[np.uint8]])


def test_asyncio(folder: Path) -> None:
    async def read() -> list[bytes]:
        async with blobpack.open(folder) as reader:
            assert_type(await reader.aread(0), bytes)
            assert_type(reader.aread_many([0]), AsyncIterator[bytes])
            return [payload async for payload in reader.aread_many(["1.png", 0])]

    assert len(asyncio.run(read())) == 2


def first(reader: Blob | Collection, rows: NDArray[np.integer[Any]]) -> bytes:
    return next(reader.read_rows(rows))


def test_a_function_of_both(folder: Path) -> None:
    for place in (folder, folder / "0.tar"):
        with blobpack.open(place) as reader:
            assert first(reader, np.arange(len(reader))) == reader[0]
            with pytest.raises(KeyError):
                reader["none"]


def test_an_index() -> None:
    index = Index([Member("a.jpg", 512, 700), Member("b.jpg", 1024, 1100)])
    mask = index.offset_end > 800
    order = np.argsort(index.offset_start)

    assert_type(index["a.jpg"], Member)
    assert_type(index[0], Member)
    assert_type(index[-1], Member)
    assert_type(index[np.int64(0)], Member)
    assert_type(index[index[0]], Member)
    assert_type(index[0:1], Index)
    assert_type(index[::-1], Index)
    assert_type(index[mask], Index)
    assert_type(index[order], Index)
    assert_type(index[np.array([1, 0])], Index)
    assert_type(index[np.array([True, False])], Index)
    assert_type(index[np.uint8(1)], Member)
    assert_type(index[np.flatnonzero(mask)], Index)
    assert_type(index[[0, 1]], Index)
    assert_type(index[[True, False]], Index)
    assert_type(index[range(2)], Index)
    assert_type(index.get("a.jpg"), Member | None)
    assert_type(index.get("c.jpg", index[0]), Member)
    assert_type(index.get("c.jpg", "nothing"), Member | str)
    assert_type("a.jpg" in index, bool)
    assert_type(index[0] in index, bool)
    assert_type(index.head(), Index)
    assert_type(index + index, Index)
    assert_type(index == index[:], bool)
    assert_type(index.names[0], str)
    assert_type(index.names[:1], list[str])
    assert_type(index.rows(["a.jpg", index[0], 1, np.int64(0)]), NDArray[np.int64])
    assert_type(index.rows(index), NDArray[np.int64])
    assert_type(index.row_of("a.jpg"), int)
    assert_type(index.range_of(0), blobpack.ByteRange)
    assert_type(index.facts, frozenset[str])
    assert_type(next(iter(index)), Member)
    assert_type(next(iter(index.names)), str)
    assert_type(index.names[0:1], list[str])
