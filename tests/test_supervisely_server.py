"""The client against a fake of Supervisely's server (tests/supervisely_server.py), on its own and with faults.

The fake stands for a real server, which needs an account. tests/tools/supervisely/ shows that the real SDK is content with its
responses, and keeps the requests of both in tests/data/supervisely/requests.json.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from supervisely_contract import (
    META,
    POINT,
    POLYGON,
    RECORDED,
    TAR,
    essence,
    make_project,
    rectangle,
)
from supervisely_server import TEAM, TOKEN, WORKSPACE, SuperviselyServer

import blobpack
from blobpack import (
    ChecksumError,
    DuplicateNameError,
    FormatError,
    StorageError,
    TruncatedError,
    UnsafeNameError,
)
from blobpack.integrations.supervisely import (
    BlobImageInfo,
    Client,
    check_project,
    open_project,
)
from blobpack.integrations.supervisely.server.coordinates import to_file, to_server

REQUESTS = json.loads(RECORDED.read_text())


@pytest.fixture
def server():
    with SuperviselyServer() as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.address, TOKEN, threads=3) as client:
        yield client


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Retries that do not wait, and end after a few attempts."""
    monkeypatch.setattr("blobpack.stores.http.retry.BACKOFF_S", 0.001)
    monkeypatch.setattr("blobpack.stores.http.retry.SLOW_DOWN_BACKOFF_S", 0.001)
    monkeypatch.setattr("blobpack.stores.http.retry.ATTEMPTS", 4)
    monkeypatch.setattr("blobpack.stores.http.retry.TRIED_FOR_S", 0)


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")


@pytest.fixture
def dataset(server):
    return server.new_dataset(server.new_project())


def contents(folder):
    """Path of each file below a folder, with its bytes and its time."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def rows(project):
    return blobpack.read_offsets(project / "train" / "small_images_offsets.pkl")


# the contract


def run_upload_project(server, client, project):
    client.upload_project(project, WORKSPACE)


def run_upload_images(server, client, project):
    dataset = server.new_dataset(server.new_project())
    file = server.add_file("/blob-files/b.tar", TAR.read_bytes())
    metas = {name: {"n": number} for number, name in enumerate(rows(project).names) if number % 2}
    client.upload_images(dataset, rows(project), file["id"], metas=metas, batch_size=5)


def run_upload_blob_images(server, client, project):
    dataset = server.new_dataset(server.new_project())
    with blobpack.open_blob(
        project / "blob" / "small_images.tar", project / "train" / "small_images_offsets.pkl"
    ) as blob:
        client.upload_images(dataset, blob)


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("upload_project", run_upload_project),
        ("upload_images", run_upload_images),
        ("upload_blob_images", run_upload_blob_images),
    ],
)
def test_the_client_sends_what_the_sdk_has_sent(name, run, server, client, project):
    run(server, client, project)
    mine = [request for request in server.requests if "mark" not in request]
    assert essence(mine) == essence(REQUESTS[name]["sdk"]) == essence(REQUESTS[name]["client"])
    # and request by request what it sent when the SDK was there
    assert [each["call"] for each in mine] == [each["call"] for each in REQUESTS[name]["client"]]


def test_the_contract_is_about_something():
    upload, quick = (essence(REQUESTS[name]["sdk"]) for name in ("upload_project", "quick_import"))
    assert (len(upload["images"]), len(upload["objects"]), len(upload["tags"])) == (18, 4, 1)
    assert upload["marked"]
    assert list(upload["files"]) == ["/blob-files/small_images.tar"]
    assert (len(quick["images"]), len(quick["objects"])) == (200, 3)
    calls = {each["call"] for scenario in REQUESTS.values() for each in scenario["sdk"]}
    assert len(calls) > 12


# a project goes up and comes back


def assert_same(one, other):
    with open_project(one) as first, open_project(other) as second:
        assert [dataset.name for dataset in first] == [dataset.name for dataset in second]
        for mine, yours in zip(first, second, strict=True):
            assert list(mine.names) == list(yours.names)
            for name in mine.names:
                assert mine.read(name) == yours.read(name)
                assert mine.image_meta(name) == yours.image_meta(name)
                for key in ("objects", "tags"):
                    assert mine.annotation(name)[key] == yours.annotation(name)[key]


def test_a_project_goes_up_and_comes_back(server, client, project, tmp_path):
    progress = []
    report = client.upload_project(project, WORKSPACE, progress=progress.append)
    assert (report.name, report.images, report.annotated, report.resumed) == (
        "project",
        18,
        3,
        False,
    )
    assert report.blobs == {"/blob-files/small_images.tar": next(iter(server.files))}
    assert "uploaded 'project'" in str(report)
    assert (progress[-1].done, progress[-1].total) == (18, 18)
    assert max(each.done_bytes for each in progress) == TAR.stat().st_size
    downloaded = client.download_project(
        report.project_id, tmp_path / "down", progress=progress.append
    )
    assert downloaded.datasets == {"train": 12, "val": 6}
    assert (downloaded.images, downloaded.fetched, downloaded.blobs) == (18, 18, 1)
    assert (progress[-1].done, progress[-1].total) == (18, 18)
    assert check_project(tmp_path / "down") == []
    assert_same(project, tmp_path / "down")


def test_a_second_download_changes_nothing(server, client, project, tmp_path):
    """The SDK appends the rows again, and the project can't be opened any more."""
    number = client.upload_project(project, WORKSPACE).project_id
    client.download_project(number, tmp_path / "down")
    before = contents(tmp_path / "down")
    server.requests.clear()
    report = client.download_project(number, tmp_path / "down")
    assert (report.fetched, report.blobs, report.images) == (0, 0, 18)
    assert contents(tmp_path / "down") == before
    # lists only
    assert {each["call"] for each in server.requests} == {
        "projects.info",
        "projects.meta",
        "datasets.list",
        "images.list",
    }


def test_a_download_follows_the_server(server, client, project, tmp_path):
    number = client.upload_project(project, WORKSPACE).project_id
    client.download_project(number, tmp_path / "down")
    first, second, *_ = server.images.values()
    server.annotations[first["id"]] = {
        "description": "new",
        "tags": [],
        "size": {"height": 16, "width": 24},
        "objects": [],
    }
    first["updatedAt"] = "2027-01-01T00:00:00.000Z"
    server.do_images_bulk_remove({"imageIds": [second["id"]]})
    report = client.download_project(number, tmp_path / "down")
    assert (report.images, report.fetched) == (17, 1)
    with open_project(tmp_path / "down") as opened:
        assert opened["train"].annotation(first["name"])["description"] == "new"
        assert second["name"] not in opened["train"]
    assert not (tmp_path / "down" / "train" / "ann" / f"{second['name']}.json").exists()
    assert check_project(tmp_path / "down") == []


def test_images_without_a_blob_come_as_files(server, client, dataset, tmp_path):
    with blobpack.open_blob(TAR, blobpack.scan(TAR)) as blob:
        payload = blob.read(0)
    (stored,) = server.answer("images.bulk.upload", {}, [("0-file", payload)])
    row = {"title": "single.png", "hash": stored["hash"]}
    fields = {"datasetId": dataset, "images": [row]}
    (single,) = server.answer("images.bulk.add", {}, fields)
    single["meta"] = {"x": 1}
    client.download_project(server.datasets[dataset]["projectId"], tmp_path / "down")
    with open_project(tmp_path / "down") as opened:
        assert opened["ds"].read("single.png") == payload
        assert opened["ds"].image_meta("single.png") == {"x": 1}
    assert check_project(tmp_path / "down") == []


# one blob, several projects


def test_one_blob_serves_several_projects(server, client, project):
    file = client.upload_blob(TEAM, TAR)
    server.requests.clear()
    for number in range(2):
        dataset = server.new_dataset(server.new_project(f"p{number}"))
        index = blobpack.scan(TAR)[number * 50 : number * 50 + 50]
        assert len(client.upload_images(dataset, index, file)) == 50
    assert not server.calls("file-storage.upload")
    assert len(server.files) == 2
    # and the same blob again is not sent
    assert client.upload_blob(TEAM, TAR) == file
    assert not server.calls("file-storage.upload")


def test_another_blob_of_the_name_gets_a_path_of_its_own(server, client, tmp_path):
    """In /blob-files all projects of a team share one path for each name."""
    other = tmp_path / "small_images.tar"
    blobpack.pack({"x.jpg": b"x" * 900}, other, all_files=True)
    first, second = client.upload_blob(TEAM, TAR), client.upload_blob(TEAM, other)
    assert (first.path, first.size) == ("/blob-files/small_images.tar", TAR.stat().st_size)
    assert second.path.startswith("/blob-files/small_images-")
    assert client.upload_blob(TEAM, other) == second
    assert sorted(info["name"] for info, _ in server.files.values()) == sorted(
        Path(path).stem + end
        for path in (first.path, second.path)
        for end in (".tar", "_offsets.pkl")
    )


def test_the_offsets_file_beside_a_blob(server, client, tmp_path):
    file = client.upload_blob(TEAM, TAR, "/elsewhere/b.tar")
    path = client.offsets_file(file.id, tmp_path)
    assert path == tmp_path / "b_offsets.pkl"
    assert blobpack.read_offsets(path) == blobpack.scan(TAR)
    lonely = client.upload_blob(TEAM, TAR, "/lonely/b.tar", offsets=False)
    with pytest.raises(StorageError, match="HTTP status 404: Not Found: no such file"):
        client.offsets_file(lonely, tmp_path)
    server.add_file("/lonely/b_offsets.pkl", b"no pickle")
    with pytest.raises(FormatError):
        client.offsets_file(lonely, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b_offsets.pkl"]


def test_a_compressed_blob_is_sent_as_a_plain_tar(server, client, tmp_path):
    blobpack.pack({"x.jpg": b"x" * 900}, tmp_path / "x.tar.zst", all_files=True)
    file = client.upload_blob(TEAM, tmp_path / "x.tar.zst")
    assert file.path == "/blob-files/x.tar"
    (data,) = [data for info, data in server.files.values() if info["path"] == file.path]
    (tmp_path / "plain.tar").write_bytes(data)
    assert blobpack.open_blob(tmp_path / "plain.tar").read("x.jpg") == b"x" * 900


def test_quick_import(server, client, tmp_path):
    dataset = client.create_dataset(client.create_project(WORKSPACE, "quick", META), "ds")
    index = blobpack.scan(TAR)
    name = index.names[5]
    given = {
        name: {
            "size": {"height": 9, "width": 9},
            "tags": [],
            "objects": [rectangle([2, 1], [7, 9])],
        }
    }
    ids = client.quick_import(dataset, TAR, given)
    assert list(ids) == list(index.names)
    assert server.annotations.keys() == {ids[name]}
    assert (
        server.projects[server.datasets[dataset]["projectId"]]["customData"]["is_blob_project"]
        is True
    )
    with pytest.raises(FormatError, match=r"image \d+: the meta has no class 'cart'"):
        client.upload_annotations(
            dataset, {ids[name]: {**given[name], "objects": [{**POINT, "classTitle": "cart"}]}}
        )
    assert (
        client.upload_annotations(
            dataset, {ids[index.names[6]]: {**given[name], "objects": [POINT]}}
        )
        == 1
    )


# names that are taken


def test_a_name_conflict(server, client, dataset):
    file = client.upload_blob(TEAM, TAR)
    index = blobpack.scan(TAR)
    first = client.upload_images(dataset, index[:10], file)
    # the same images again are no conflict
    assert client.upload_images(dataset, index[:12], file) | first == client.upload_images(
        dataset, index[:12], file
    )
    moved = [
        BlobImageInfo(index.names[row], index[20].offset_start, index[20].offset_end)
        for row in range(3)
    ]
    new = BlobImageInfo("new.jpg", index[21].offset_start, index[21].offset_end)
    with pytest.raises(
        DuplicateNameError, match=rf"other images of 3 of these names: '{index.names[0]}'"
    ):
        client.upload_images(dataset, [*moved, new], file)
    assert "new.jpg" not in {image["name"] for image in server.images.values()}
    skipped = client.upload_images(dataset, [*moved, new], file, conflict="skip")
    assert [skipped[info.name] for info in moved] == [first[info.name] for info in moved]
    renamed = client.upload_images(dataset, moved, file, conflict="rename")
    names = {server.images[number]["name"] for number in renamed.values()}
    assert all(name.startswith(f"{Path(index.names[0]).stem[:3]}") for name in names)
    assert not names & set(index.names)
    replaced = client.upload_images(dataset, moved, file, conflict="replace")
    assert (
        not first.keys() - replaced.keys()
        & {first[info.name] for info in moved}
        & server.images.keys()
    )
    assert all(
        server.images[replaced[info.name]]["offsetStart"] == info.offset_start for info in moved
    )


# faults


def test_errors_of_the_server_are_tried_again(server, client, project, tmp_path):
    calls = (
        "projects.add",
        "file-storage.upload",
        "datasets.add",
        "images.bulk.add",
        "annotations.bulk.add",
        "projects.list",
    )
    for call in calls:
        server.faults.errors[call] = 2
    report = client.upload_project(project, WORKSPACE)
    for call in ("images.data.download", "annotations.bulk.info", "images.list", "projects.meta"):
        server.faults.errors[call] = 2
    client.download_project(report.project_id, tmp_path / "down")
    assert_same(project, tmp_path / "down")
    assert len(server.projects) == 1
    assert len(server.datasets) == 2


def test_a_lost_response_makes_nothing_twice(server, client, project):
    """The server does its work, and its response is cut: the call is sent again."""
    for call in (
        "projects.add",
        "datasets.add",
        "images.bulk.add",
        "annotations.bulk.add",
        "file-storage.upload",
    ):
        server.faults.lost[call] = 1
    report = client.upload_project(project, WORKSPACE)
    assert (len(server.projects), len(server.datasets), len(server.images), len(server.files)) == (
        1,
        2,
        18,
        1,
    )
    assert report.annotated == 3
    # annotations were added once
    assert len(server.calls("annotations.bulk.add")) == 2


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_body_is_continued(server, client, project, tmp_path, ranges):
    report = client.upload_project(project, WORKSPACE)
    server.faults.ranges = ranges
    server.faults.cut["images.data.download"] = [300_000, 100_000]
    server.requests.clear()
    client.download_project(report.project_id, tmp_path / "down")
    assert_same(project, tmp_path / "down")
    asked = [request.get("range") for request in server.calls("images.data.download")]
    assert len(asked) == 3
    assert asked[0] is None
    assert asked[1] == "bytes=300000-"
    if ranges:
        assert asked[2] == "bytes=400000-"
    assert not list((tmp_path / "down" / "blob").glob(".*"))


def test_a_server_that_stays_away_is_an_error_and_leaves_a_part(server, client, project, tmp_path):
    report = client.upload_project(project, WORKSPACE)
    server.faults.cut["images.data.download"] = [5000, *[0] * 10]
    with pytest.raises(StorageError, match=r"images.data.download: .* after \d attempts"):
        client.download_project(report.project_id, tmp_path / "down")
    (part,) = (tmp_path / "down" / "blob").iterdir()
    assert part.name.startswith(".")
    assert part.stat().st_size == 5000
    server.faults.cut.clear()
    server.requests.clear()
    client.download_project(report.project_id, tmp_path / "down")
    assert server.calls("images.data.download")[0]["range"] == "bytes=5000-"
    assert_same(project, tmp_path / "down")


def test_a_refusal_has_the_servers_own_message_and_is_not_repeated(server, client, dataset):
    with pytest.raises(
        StorageError, match=r"images.bulk.add: HTTP status 404: Not Found: no entity 5$"
    ) as caught:
        client.upload_images(dataset, [BlobImageInfo("a.jpg", 0, 5)], 5)
    assert caught.value.status == 404
    assert len(server.calls("images.bulk.add")) == 1
    file = client.upload_blob(TEAM, TAR)
    with pytest.raises(
        StorageError, match=r"HTTP status 400: Bad Request: offsets are out of range"
    ):
        client.upload_images(dataset, [BlobImageInfo("a.jpg", 0, 1 << 40)], file)
    wrong = Client(server.address, "wrong-token")
    with pytest.raises(
        StorageError, match="HTTP status 403: Forbidden: Invalid API token"
    ) as caught:
        wrong.upload_images(dataset, [], 5)
    assert "wrong-token" not in str(caught.value) + repr(wrong)


def test_a_server_that_does_not_answer(project):
    with SuperviselyServer() as server:
        address = server.address
    with (
        Client(address, TOKEN) as client,
        pytest.raises(StorageError, match=r"projects.list: .*after 4 attempts"),
    ):
        client.upload_project(project, WORKSPACE)


def test_a_blob_that_arrives_changed_is_refused(server, client, project, tmp_path):
    report = client.upload_project(project, WORKSPACE)
    (number,) = server.files
    info, data = server.files[number]
    server.files[number] = (info, data[:1000] + b"x" + data[1001:])
    with pytest.raises(ChecksumError, match="its SHA-256 is"):
        client.download_project(report.project_id, tmp_path / "down")
    server.files[number] = (info, data[:-1])
    with pytest.raises(
        TruncatedError, match=f"{len(data) - 1} bytes came, and the server has {len(data)}"
    ):
        client.download_project(report.project_id, tmp_path / "down")
    assert not list((tmp_path / "down" / "blob").iterdir())
    # a server that knows no digest: then the headers in the blob are compared with the offsets
    del info["hash"], info["meta"]
    server.files[number] = (info, b"\0" * len(data))
    with pytest.raises(blobpack.StaleIndexError):
        client.download_project(report.project_id, tmp_path / "down")


def test_a_blob_that_the_server_stores_changed_is_refused(server, client):
    add = server.add_file
    server.add_file = lambda path, data: add(path, data + b"x")
    with pytest.raises(StorageError, match="the server stored other bytes than were sent"):
        client.upload_blob(TEAM, TAR)


def test_a_hostile_server_writes_nowhere_else(server, client, project, tmp_path):
    number = client.upload_project(project, WORKSPACE).project_id
    image = next(iter(server.images.values()))
    image["name"] = "../../../evil"
    with pytest.raises(UnsafeNameError, match="evil"):
        client.download_project(number, tmp_path / "down")
    image["name"] = "fine.jpg"
    next(iter(server.datasets.values()))["name"] = ".."
    with pytest.raises(FormatError, match=r"a dataset is named '..'"):
        client.download_project(number, tmp_path / "down")


def test_a_folder_of_another_project_is_refused(server, client, project, tmp_path):
    number = client.upload_project(project, WORKSPACE).project_id
    client.download_project(number, tmp_path / "down")
    other = client.upload_project(project, WORKSPACE)
    assert other.name == "project_000"
    with pytest.raises(StorageError, match="holds another project"):
        client.download_project(other.project_id, tmp_path / "down")


# kills

WORK = """
import sys
from blobpack.integrations.supervisely import Client
address, token, what, *arguments = sys.argv[1:]
client = Client(address, token, threads=1)
if what == "upload":
    client.upload_project(arguments[0], 8, progress=print)
else:
    client.download_project(int(arguments[0]), arguments[1])
"""


def killed(server, after, *arguments):
    """Run the client in a process that is killed as soon as the server has got a request for the nth time."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, server.address, TOKEN, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
    )
    call, times = after
    held = server.answer

    def answer(name, query, body):
        if name == call and len(server.calls(call)) == times:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        return held(name, query, body)

    server.answer = answer
    assert process.wait() == -signal.SIGKILL
    server.answer = held


@pytest.mark.parametrize(
    "after",
    [
        ("file-storage.upload", 1),
        ("datasets.add", 1),
        ("images.bulk.add", 1),
        ("images.bulk.add", 2),
        ("annotations.bulk.add", 2),
        ("projects.editInfo", 1),
    ],
)
def test_an_upload_that_was_killed_is_continued(server, client, project, tmp_path, after):
    killed(server, after, "upload", project)
    before = len(server.requests)
    report = client.upload_project(project, WORKSPACE)
    # the last call of all was done, so that nothing is left to continue
    if after[0] == "projects.editInfo":
        assert not report.resumed
        return
    assert report.resumed
    assert "continued" in str(report)
    assert (len(server.projects), len(server.datasets), len(server.images), len(server.files)) == (
        1,
        2,
        18,
        1,
    )
    again = [
        each
        for each in server.requests[before:]
        if each["call"] in ("file-storage.upload", "projects.add")
    ]
    assert not again
    assert (
        sum(len(each["json"]["annotations"]) for each in server.calls("annotations.bulk.add")) == 3
    )
    client.download_project(report.project_id, tmp_path / "down")
    assert_same(project, tmp_path / "down")


@pytest.mark.parametrize(
    "after",
    [("annotations.bulk.info", 1), ("annotations.bulk.info", 2), ("images.data.download", 1)],
)
def test_a_download_that_was_killed_is_continued(server, client, project, tmp_path, after):
    number = client.upload_project(project, WORKSPACE).project_id
    server.requests.clear()
    killed(server, after, "download", number, tmp_path / "down")
    report = client.download_project(number, tmp_path / "down")
    assert report.fetched == (6 if after == ("annotations.bulk.info", 2) else 18)
    assert check_project(tmp_path / "down") == []
    assert_same(project, tmp_path / "down")
    before = contents(tmp_path / "down")
    client.download_project(number, tmp_path / "down")
    assert contents(tmp_path / "down") == before


def test_half_of_a_journals_line_is_no_line(server, client, project, tmp_path):
    number = client.upload_project(project, WORKSPACE).project_id
    client.download_project(number, tmp_path / "down")
    journal = tmp_path / "down" / ".blobpack-download.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert client.download_project(number, tmp_path / "down").fetched == 6
    assert client.download_project(number, tmp_path / "down").fetched == 0


# what can't be uploaded


def test_what_only_the_sdk_uploads_is_refused_before_anything_is_sent(server, client, project):
    meta = json.loads((project / "meta.json").read_text())
    meta["classes"].append({"title": "mask", "shape": "alpha_mask"})
    (project / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(FormatError, match=r"class 'mask' has the shape 'alpha_mask'"):
        client.upload_project(project, WORKSPACE)
    (project / "meta.json").write_text(json.dumps(META))
    (project / "train" / "img").mkdir()
    (project / "train" / "img" / "x.jpg").write_bytes(b"")
    with pytest.raises(FormatError, match="has images that are files of their own"):
        client.upload_project(project, WORKSPACE)
    assert server.requests == []


# coordinates


def test_coordinates_on_the_server_and_in_files():
    """The rules of the SDK, whose own results tests/tools/supervisely/ compares."""
    bitmap = {
        "classTitle": "m",
        "geometryType": "bitmap",
        "bitmap": {"origin": [3, 4], "data": "x"},
        "tags": [],
    }
    nodes = {
        "classTitle": "g",
        "geometryType": "graph",
        "nodes": {"a": {"loc": [3, 4]}},
        "tags": [],
    }
    local = {
        "size": {"height": 16, "width": 24},
        "tags": [],
        "objects": [rectangle([1, 2], [5, 6]), POLYGON, POINT, bitmap, nodes],
    }
    far = to_server(local)
    box, polygon, point, mask, graph = far["objects"]
    assert box["points"]["exterior"] == [[1, 2], [6, 7]]
    assert polygon["points"]["exterior"] == [[0.5, 0.5], [9.5, 0.5], [9.5, 9.5]]
    assert polygon["points"]["interior"] == [[[6.5, 1.5], [8.5, 1.5], [8.5, 3.5]]]
    assert point["points"]["exterior"] == [[3.5, 4.5]]
    assert mask["bitmap"]["origin"] == [3, 4]
    assert graph["nodes"]["a"]["loc"] == [3.5, 4.5]
    assert to_file(far) == local
    # what a person drew there: a side between pixels, a point on the edge
    drawn = {
        **far,
        "objects": [rectangle([1.74, 1.55], [3.76, 4.63]), rectangle([2.2, 2.2], [2.8, 2.9])],
    }
    assert [each["points"]["exterior"] for each in to_file(drawn)["objects"]] == [
        [[2, 1], [3, 4]],
        [[2, 2], [2, 2]],
    ]
    edge = {**POINT, "points": {"exterior": [[24, 16]], "interior": []}}
    assert to_file({**far, "objects": [edge]})["objects"][0]["points"]["exterior"] == [[23, 15]]


# misuse


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda c, p: Client(5, TOKEN), TypeError, "server must be a str"),
        (
            lambda c, p: Client("app.supervisely.com", TOKEN),
            ValueError,
            "server must be an address",
        ),
        (lambda c, p: Client("https://host", 5), TypeError, "token must be a str"),
        (lambda c, p: Client("https://host", ""), ValueError, "token must be"),
        (lambda c, p: Client("https://host", "a\nb"), ValueError, "token must be"),
        (lambda c, p: Client("https://host", TOKEN, threads=0), ValueError, "threads must be"),
        (lambda c, p: c.create_project("8", "x"), TypeError, "workspace_id"),
        (lambda c, p: c.create_project(8, 5), TypeError, "name must be"),
        (lambda c, p: c.create_project(8, "x", []), TypeError, "meta must be"),
        (lambda c, p: c.create_project(8, "x", {}), ValueError, "meta: "),
        (lambda c, p: c.create_dataset("8", "x"), TypeError, "project_id"),
        (lambda c, p: c.create_dataset(8, None), TypeError, "name must be"),
        (lambda c, p: c.create_dataset(8, "x", "y"), TypeError, "parent_id"),
        (lambda c, p: c.upload_blob("7", TAR), TypeError, "team_id"),
        (lambda c, p: c.upload_blob(7, 5), TypeError, "blob must be"),
        (lambda c, p: c.upload_blob(7, TAR, 5), TypeError, "path must be"),
        (lambda c, p: c.upload_blob(7, TAR, "x.tar"), ValueError, "path must begin with a slash"),
        (lambda c, p: c.upload_blob(7, TAR, offsets="no"), TypeError, "offsets must be"),
        (lambda c, p: c.upload_blob(7, TAR, progress=5), TypeError, "progress must be"),
        (lambda c, p: c.upload_images("5", TAR), TypeError, "dataset_id"),
        (lambda c, p: c.upload_images(5, 5, 7), TypeError, "images must be"),
        (lambda c, p: c.upload_images(5, [], None), ValueError, "team_file must be given"),
        (lambda c, p: c.upload_images(5, TAR, "7"), TypeError, "team_file must be"),
        (lambda c, p: c.upload_images(5, TAR, metas=[]), TypeError, "metas must be"),
        (
            lambda c, p: c.upload_images(5, TAR, conflict="ask"),
            ValueError,
            "conflict must be one of",
        ),
        (lambda c, p: c.upload_images(5, TAR, batch_size=0), ValueError, "batch_size"),
        (lambda c, p: c.upload_images(5, TAR, progress=5), TypeError, "progress"),
        (lambda c, p: c.upload_annotations("5", {}), TypeError, "dataset_id"),
        (lambda c, p: c.upload_annotations(5, 5), TypeError, "annotations must be"),
        (lambda c, p: c.upload_annotations(5, {}, progress=5), TypeError, "progress"),
        (lambda c, p: c.quick_import("5", TAR), TypeError, "dataset_id"),
        (lambda c, p: c.quick_import(5, 5), TypeError, "blob must be"),
        (lambda c, p: c.quick_import(5, TAR, 5), TypeError, "annotations must be"),
        (lambda c, p: c.quick_import(5, TAR, metas=[]), TypeError, "metas must be"),
        (lambda c, p: c.quick_import(5, TAR, conflict=None), ValueError, "conflict must be"),
        (lambda c, p: c.quick_import(5, TAR, progress=5), TypeError, "progress"),
        (lambda c, p: c.upload_project(5, 8), TypeError, "folder must be"),
        (lambda c, p: c.upload_project("s3://b/k", 8), ValueError, "folder must be"),
        (lambda c, p: c.upload_project(p, "8"), TypeError, "workspace_id"),
        (lambda c, p: c.upload_project(p, 8, 5), TypeError, "name must be"),
        (lambda c, p: c.upload_project(p, 8, progress=5), TypeError, "progress"),
        (lambda c, p: c.offsets_file("7", p), TypeError, "team_file must be"),
        (lambda c, p: c.offsets_file(None, p), TypeError, "team_file must be"),
        (lambda c, p: c.offsets_file(7, 5), TypeError, "folder must be"),
        (lambda c, p: c.download_blob("5", "x", p), TypeError, "project_id"),
        (lambda c, p: c.download_blob(5, 5, p), TypeError, "download_id must be"),
        (lambda c, p: c.download_blob(5, "x", 5), TypeError, "target must be"),
        (lambda c, p: c.download_blob(5, "x", p, team_file="7"), TypeError, "team_file must be"),
        (lambda c, p: c.download_blob(5, "x", p, progress=5), TypeError, "progress"),
        (lambda c, p: c.download_project("5", p), TypeError, "project_id"),
        (lambda c, p: c.download_project(5, "s3://b/k"), ValueError, "folder must be"),
        (lambda c, p: c.download_project(5, p, progress=5), TypeError, "progress"),
    ],
)
def test_misuse_names_the_argument_and_sends_nothing(server, client, tmp_path, call, error, says):
    with pytest.raises(error, match=says) as caught:
        call(client, tmp_path / "new")
    assert type(caught.value) is error
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


def test_download_blob(server, client, project, tmp_path):
    number = client.upload_project(project, WORKSPACE).project_id
    image = next(iter(server.images.values()))
    progress = []
    path = client.download_blob(
        number,
        image["downloadId"],
        tmp_path / "b.tar",
        team_file=image["relatedDataId"],
        progress=progress.append,
    )
    assert path.read_bytes() == TAR.read_bytes()
    assert (progress[-1].done_bytes, progress[-1].total_bytes) == (TAR.stat().st_size,) * 2
    assert (
        client.download_blob(number, image["downloadId"], tmp_path / "c.tar").read_bytes()
        == TAR.read_bytes()
    )
