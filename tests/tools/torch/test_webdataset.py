"""Samples are those that WebDataset makes of the same tar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import webdataset

from blobpack.integrations.torch import BlobDataset

if TYPE_CHECKING:
    from pathlib import Path


def test_a_blob_has_the_samples_that_webdataset_reads(tar: Path) -> None:
    theirs = webdataset.WebDataset(str(tar), shardshuffle=False).decode("rgb8")
    ours = BlobDataset(tar)
    count = 0
    for i, their in enumerate(theirs):
        our = ours[i]
        assert our.keys() == {key for key in their if key not in ("__url__", "__local_path__")}
        for field in ("__key__", "cls", "json"):
            assert our[field] == their[field]
        assert np.array_equal(our["jpg"].permute(1, 2, 0).numpy(), their["jpg"])
        count += 1
    assert count == len(ours)


def test_a_webdataset_that_its_own_writer_wrote(tmp_path: Path) -> None:
    path = tmp_path / "written.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for i in range(9):
            pixels = np.full((4, 5, 3), 20 * i, np.uint8)
            writer.write({"__key__": f"a/{i}", "png": pixels, "cls": i, "meta.json": {"i": i}})
    import blobpack

    ours = BlobDataset(blobpack.open_blob(path, blobpack.scan(path)))
    assert [sample["cls"] for sample in ours.__getitems__(range(9))] == list(range(9))
    assert ours[4]["meta.json"] == {"i": 4}
    assert ours[4]["__key__"] == "a/4"
    assert ours[4]["png"].unique().tolist() == [80]
