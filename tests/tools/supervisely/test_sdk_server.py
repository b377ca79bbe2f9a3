"""The real SDK drives the fake server until each call succeeds; blobpack's client then does the same against it, unchanged.

The requests of both are kept in tests/data/supervisely/requests.json: BLOBPACK_REWRITE_REQUESTS=1 writes it anew. What they
change on the server, and what they fetch, must be equal.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import supervisely as sly
from supervisely_contract import (
    META,
    POINT,
    POLYGON,
    RECORDED,
    TAR,
    compact,
    essence,
    make_project,
    rectangle,
)
from supervisely_server import TEAM, TOKEN, WORKSPACE, SuperviselyServer

import blobpack
from blobpack.integrations.supervisely import Client, check_project, offset_batches, open_project

os.environ["SUPERVISELY_API_SERVER_RETRIES"] = "1"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


def sdk_of(server: SuperviselyServer) -> sly.Api:
    return sly.Api(server.address, TOKEN, retry_count=2, ignore_task_id=True)


def upload(run, *arguments):
    """Run something against a new server; return the server."""
    with SuperviselyServer() as server:
        run(server, *arguments)
    return server


def by_sdk_upload_project(server, project):
    sly.upload_project(str(project), sdk_of(server), WORKSPACE, "project", log_progress=False)


def by_client_upload_project(server, project):
    with Client(server.address, TOKEN) as client:
        client.upload_project(project, WORKSPACE)


def by_sdk_upload_images(server, project):
    dataset, file = (
        server.new_dataset(server.new_project()),
        server.add_file("/blob-files/b.tar", TAR.read_bytes()),
    )
    rows = next(offset_batches(open_rows(project), form="objects"))
    names = [row.name for row in rows]
    metas = [{"n": number} if number % 2 else {} for number in range(len(names))]
    sdk_of(server).image.upload_by_offsets(
        dataset, file["id"], names, [row.offsets_dict for row in rows], metas=metas, batch_size=5
    )


def by_client_upload_images(server, project):
    dataset, file = (
        server.new_dataset(server.new_project()),
        server.add_file("/blob-files/b.tar", TAR.read_bytes()),
    )
    index = open_rows(project)
    metas = {name: {"n": number} for number, name in enumerate(index.names) if number % 2}
    with Client(server.address, TOKEN) as client:
        ids = client.upload_images(dataset, index, file["id"], metas=metas, batch_size=5)
    assert list(ids) == list(index.names)


def open_rows(project):
    return blobpack.read_offsets(project / "train" / "small_images_offsets.pkl")


def by_sdk_upload_blob_images(server, project):
    api = sdk_of(server)
    dataset = server.new_dataset(server.new_project())
    file = api.file.upload(
        TEAM, str(project / "blob" / "small_images.tar"), "/blob-files/small_images.tar"
    )
    pkl = project / "train" / "small_images_offsets.pkl"
    api.file.upload(TEAM, str(pkl), "/blob-files/small_images_offsets.pkl")
    api.image.upload_blob_images(api.dataset.get_info_by_id(dataset), file)


def by_client_upload_blob_images(server, project):
    dataset = server.new_dataset(server.new_project())
    with (
        Client(server.address, TOKEN) as client,
        blobpack.open_blob(
            project / "blob" / "small_images.tar", project / "train" / "small_images_offsets.pkl"
        ) as blob,
    ):
        client.upload_images(dataset, blob)


def quick_import(project: Path) -> tuple[Path, Path]:
    """The blob with an offsets file of all its rows, and the folder of annotations for all rows."""
    folder = project.parent / "quick"
    folder.mkdir(exist_ok=True)
    tar = folder / "small_images.tar"
    tar.write_bytes(TAR.read_bytes())
    index = blobpack.scan(tar, facts=True)
    blobpack.write_offsets(index, folder / "small_images_offsets.pkl", names="basename")
    objects = {5: [rectangle([2, 1], [7, 9]), untagged(POLYGON)], 150: [untagged(POINT)]}
    (folder / "ann").mkdir(exist_ok=True)
    for row, member in enumerate(index):
        size = {"height": member.height, "width": member.width}
        annotation = {"description": "", "size": size, "tags": [], "objects": objects.get(row, [])}
        (folder / "ann" / f"{member.name}.json").write_text(json.dumps(annotation))
    return tar, folder / "ann"


def untagged(each: dict[str, Any]) -> dict[str, Any]:
    return {**each, "tags": []}


def by_sdk_quick_import(server, project):
    tar, anns = quick_import(project)
    api = sdk_of(server)
    dataset = server.new_dataset(server.new_project())
    meta = api.project.update_meta(server.datasets[dataset]["projectId"], META)
    api.dataset.quick_import(
        dataset,
        str(tar),
        str(tar.with_name("small_images_offsets.pkl")),
        [str(path) for path in sorted(anns.iterdir())],
        project_meta=meta,
        project_type=sly.ProjectType.IMAGES,
    )


def by_client_quick_import(server, project):
    tar, anns = quick_import(project)
    dataset = server.new_dataset(server.new_project())
    server.answer(
        "projects.meta.update", {}, {"id": server.datasets[dataset]["projectId"], "meta": META}
    )
    with Client(server.address, TOKEN) as client:
        assert len(client.quick_import(dataset, tar, anns)) == 200


SCENARIOS = {
    "quick_import": (by_sdk_quick_import, by_client_quick_import),
    "upload_project": (by_sdk_upload_project, by_client_upload_project),
    "upload_images": (by_sdk_upload_images, by_client_upload_images),
    "upload_blob_images": (by_sdk_upload_blob_images, by_client_upload_blob_images),
}


def keep(name: str, sdk: SuperviselyServer, client: SuperviselyServer) -> None:
    """Compare the requests with those that are kept, or keep them."""
    kept = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    if os.environ.get("BLOBPACK_REWRITE_REQUESTS"):
        kept[name] = {"sdk": sdk.requests, "client": client.requests}
        scenarios = [
            f'"{key}":{{\n"sdk":{compact(value["sdk"])},\n"client":{compact(value["client"])}}}'
            for key, value in sorted(kept.items())
        ]
        RECORDED.write_text("{\n" + ",\n".join(scenarios) + "\n}\n")
        return
    assert essence(kept[name]["sdk"]) == essence(sdk.requests)
    assert essence(kept[name]["client"]) == essence(client.requests)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_client_asks_for_what_the_sdk_asks_for(name: str, project: Path) -> None:
    by_sdk, by_client = (upload(run, project) for run in SCENARIOS[name])
    theirs, ours = essence(by_sdk.requests), essence(by_client.requests)
    if name == "quick_import":
        # the test itself calls the fake to set the meta for the client
        theirs["classes"] = []
    assert ours == theirs
    # by quick_import, the SDK adds figures instead of annotations
    assert name == "quick_import" or by_client.annotations.keys() <= by_sdk.annotations.keys()
    # the SDK also sends empty annotations, which change nothing but the time of an image
    for server in (by_sdk, by_client):
        for image in server.images.values():
            del image["updatedAt"], image["labelsCount"], image["tags"]
    assert by_client.images == by_sdk.images
    keep(name, by_sdk, by_client)


def test_a_download_is_the_sdks(project: Path, tmp_path: Path) -> None:
    with SuperviselyServer() as server, Client(server.address, TOKEN) as client:
        report = client.upload_project(project, WORKSPACE)
        server.requests.clear()
        sly.download_fast(
            sdk_of(server),
            report.project_id,
            str(tmp_path / "sdk"),
            download_blob_files=True,
            log_progress=True,
            save_image_meta=True,
        )
        by_sdk = list(server.requests)
        server.requests.clear()
        client.download_project(report.project_id, tmp_path / "client")
        by_client = list(server.requests)
    assert essence(by_client) == essence(by_sdk)
    assert check_project(tmp_path / "client") == check_project(tmp_path / "sdk") == []
    theirs, ours = open_project(tmp_path / "sdk"), open_project(tmp_path / "client")
    opened = sly.Project(str(tmp_path / "client"), sly.OpenMode.READ)
    local = open_project(project)
    for their, our, source in zip(theirs, ours, local, strict=True):
        assert their.name == our.name == source.name
        assert sorted(their.names) == sorted(our.names) == sorted(source.names)
        for name in our.names:
            assert their.read(name) == our.read(name) == source.read(name)
            assert their.image_meta(name) == our.image_meta(name) == source.image_meta(name)
            annotation = opened.datasets.get(our.name).get_ann(name, opened.meta)
            expected = sly.Annotation.from_json(
                source.annotation(name), sly.ProjectMeta.from_json(META)
            )
            assert [label.geometry.to_json()["points"] for label in annotation.labels] == [
                label.geometry.to_json()["points"] for label in expected.labels
            ]
            assert [tag.name for tag in annotation.img_tags] == [
                tag.name for tag in expected.img_tags
            ]


def test_offsets_file_is_the_sdks(tmp_path: Path) -> None:
    with SuperviselyServer() as server, Client(server.address, TOKEN) as client:
        file = client.upload_blob(TEAM, TAR)
        theirs = sdk_of(server).image.get_blob_offsets_file(file.id)
        ours = client.offsets_file(file, tmp_path)
        assert Path(theirs).read_bytes() == ours.read_bytes()
        assert sdk_of(server).file.get_info_by_id(file.id).sizeb == file.size == TAR.stat().st_size
