"""Every command takes gs:// URLs wherever it takes s3:// URLs; commands about S3 alone say so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import blobpack
from blobpack.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from cloudservers import Gcs


def run(*arguments: object, code: int = 0) -> str:
    ran = CliRunner().invoke(main, list(map(str, arguments)))
    assert ran.exit_code == code, ran.output
    return ran.output


@pytest.fixture
def base(gcs: Gcs) -> str:
    """A prefix that holds the loose images imgs/, and the blob out.tar of them."""
    return gcs.url(gcs.new_bucket(), "base")


@pytest.fixture
def images(gcs: Gcs, base: str, small_images: dict[str, bytes]) -> dict[str, bytes]:
    bucket = base.split("/")[2]
    for name, payload in small_images.items():
        gcs.put(bucket, f"base/imgs/{name}", payload)
    run("pack", f"{base}/imgs/", f"{base}/out.tar")
    return small_images


def names_of(blob: str | Path) -> list[str]:
    return run("ls", blob).splitlines()


def test_pack_ls_cat_info_and_verify(base: str, images: dict[str, bytes]) -> None:
    assert names_of(f"{base}/out.tar") == sorted(images)
    assert "members" in run("info", f"{base}/out.tar")
    assert "all is well" in run("verify", f"{base}/out.tar")
    ran = CliRunner().invoke(main, ["cat", f"{base}/out.tar", "cats/0001.jpg"])
    assert ran.stdout_bytes == images["cats/0001.jpg"]


def test_append_subset_merge_and_repack(
    base: str, images: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "new.jpg").write_bytes(images["cats/0001.jpg"])
    run("append", f"{base}/out.tar", tmp_path / "new.jpg")
    run("subset", f"{base}/out.tar", f"{base}/cats.tar", "--filter", "cats/*")
    run("subset", f"{base}/out.tar", tmp_path / "new.tar", "--filter", "new.jpg")
    run("merge", f"{base}/cats.tar", tmp_path / "new.tar", f"{base}/all.tar")
    cats = [name for name in sorted(images) if name.startswith("cats/")]
    assert names_of(f"{base}/all.tar") == [*cats, "new.jpg"]
    run("repack", f"{base}/all.tar", f"{base}/all.tar.zst")
    assert names_of(f"{base}/all.tar.zst") == [*cats, "new.jpg"]


def test_index_offsets_and_collect(base: str, images: dict[str, bytes], tmp_path: Path) -> None:
    run("index", f"{base}/out.tar", "-o", f"{base}/other.idx")
    assert run("ls", f"{base}/out.tar", "--index-file", f"{base}/other.idx").splitlines() == sorted(
        images
    )
    run("offsets", f"{base}/out.tar", "-o", f"{base}/out.csv")
    run("offsets", f"{base}/out.tar", "-o", tmp_path / "out.csv")
    with blobpack.open_blob(f"{base}/out.tar") as blob:
        assert len(blob.index) == len(images)
    run("pack", f"{base}/imgs/", f"{base}/set/", "--shard-size", "2k")
    run("collect", f"{base}/set/*.tar", "-o", f"{base}/all.idx")
    assert names_of(f"{base}/all.idx") == names_of(f"{base}/set/") == sorted(images)


def test_extract_and_manifest(
    gcs: Gcs, base: str, images: dict[str, bytes], tmp_path: Path
) -> None:
    run("extract", f"{base}/out.tar", f"{base}/loose/")
    bucket = base.split("/")[2]
    found = {key: gcs.stored(bucket, key) for key in gcs.keys(bucket) if "/loose/" in key}
    assert found == {f"base/loose/{name}": payload for name, payload in images.items()}
    (tmp_path / "list.txt").write_text("".join(f"{base}/loose/{name}\n" for name in images))
    run("pack", "--manifest", tmp_path / "list.txt", tmp_path / "out.tar")
    assert len(names_of(tmp_path / "out.tar")) == len(images)


def test_gallery_and_export(gcs: Gcs, base: str, images: dict[str, bytes]) -> None:
    bucket = base.split("/")[2]
    run("gallery", f"{base}/out.tar", "-o", f"{base}/index.html")
    stored = gcs.server.buckets[bucket]["base/index.html"]
    assert stored.headers["content-type"].startswith("text/html")
    # the page and the blob lie in one folder, so its link is relative
    assert b'"url": "./out.tar"' in stored.data
    refused = run("gallery", f"{base}/out.tar", "-o", f"{base}/pages/index.html", code=2)
    assert "name its https:// URL" in refused
    run(
        "export",
        "label-studio",
        f"{base}/out.tar",
        "--url",
        "http://h/b/out",
        "-o",
        f"{base}/",
    )
    (task, *_) = [key for key in gcs.keys(bucket) if key.endswith(".json")]
    assert len(json.loads(gcs.stored(bucket, task))) == len(images)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("uploads", "gs://bucket/a"), "not in S3"),
        (("cors", "gs://bucket"), "not a bucket, such as s3://bucket"),
        (("pack", ".", "gs://bucket/a.tar", "--resume"), "not in S3"),
    ],
)
def test_what_is_for_s3_alone_says_so(
    arguments: tuple[str, ...], said: str, gcs: Gcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in run(*arguments, code=2)


def test_an_empty_prefix_and_a_missing_bucket_are_errors(gcs: Gcs, base: str) -> None:
    assert "there is no object below this prefix" in run("pack", f"{base}/none/", "o.tar", code=1)
    assert "no such bucket or key" in run("ls", "gs://no-such-bucket/a.tar", code=1)
    assert "no such bucket or key" in run("pack", "gs://no-such-bucket/a/", "o.tar", code=1)


def test_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from blobpack.stores.clouds import client

    client.forget_clients()
    monkeypatch.setattr(client, "find_spec", lambda name: None)
    assert "pip install 'blobpack[clouds]'" in run("ls", "gs://bucket/a.tar", code=1)
