"""`blobpack supervisely build|check|upload|download`, run as a user types them."""

import json

import blobpack_command
import pytest
from blobpack_command import as_json
from supervisely_contract import META, TAR, make_project
from supervisely_server import TOKEN, WORKSPACE, SuperviselyServer

from blobpack.integrations.supervisely import check_project, open_project


def run(folder, *arguments, **more):
    return blobpack_command.run("supervisely", *arguments, folder=folder, **more)


@pytest.fixture
def server():
    with SuperviselyServer() as server:
        yield server


def connection(server):
    return {"SERVER_ADDRESS": server.address, "API_TOKEN": TOKEN}


def test_build(tmp_path):
    annotated = {"size": {"height": 16, "width": 24}, "tags": [], "objects": []}
    name = open_project(make_project(tmp_path / "other"))["train"].names[0]
    (tmp_path / "anns").mkdir()
    (tmp_path / "anns" / f"{name}.json").write_text(json.dumps(annotated))
    (tmp_path / "meta.json").write_text(json.dumps(META))
    datasets = [
        "--dataset",
        "jpegs=*.jpg",
        "--dataset",
        "jpegs=*.JPEG",
        "--dataset",
        "pngs=*.png",
        "--dataset",
        "none=x*",
    ]
    out, err = run(
        tmp_path,
        "build",
        TAR,
        "p",
        *datasets,
        "--annotations",
        "anns",
        "--meta",
        "meta.json",
        "--copy",
    )
    assert "built p: 200 images in 2 datasets and 1 blob, 1 annotated" in out
    assert "dataset 'none': no member matches x*" in err
    assert check_project(tmp_path / "p") == []
    with open_project(tmp_path / "p") as opened:
        assert [len(dataset) for dataset in opened] == [100, 100]
        assert opened.meta == META
    assert (tmp_path / "p" / "blob" / TAR.name).stat().st_nlink == 1
    found = as_json(run(tmp_path, "build", TAR, "q", "--json")[0])
    assert found["datasets"] == {"ds0": 200}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--dataset", "img=*"], 2, "a dataset can't be named 'img'"),
        (["--dataset", "img"], 2, "'img' is not NAME=GLOB"),
        (["--dataset", "ds=x*"], 2, "there are no images"),
        (["--meta", "wrong.json"], 1, "wrong.json: not JSON"),
        (["--meta", "empty.json"], 2, "meta: `classes` must be"),
        (["--meta", "none.json"], 2, "does not exist"),
    ],
)
def test_a_wrong_build(tmp_path, arguments, code, says):
    (tmp_path / "wrong.json").write_text("{")
    (tmp_path / "empty.json").write_text("{}")
    _, err = run(tmp_path, "build", TAR, "p", *arguments, code=code)
    assert says in err
    assert not (tmp_path / "p").exists()


def test_check(tmp_path):
    project = make_project(tmp_path / "p")
    assert run(tmp_path, "check", "p") == ("no problems\n", "")
    (name, *_) = open_project(project)["train"].names
    (project / "train" / "ann" / f"{name}.json").unlink()
    out, _ = run(tmp_path, "check", "p", code=1)
    assert out == f"train/ann/{name}.json: image {name!r} has no annotation\n1 problem\n"
    found = as_json(run(tmp_path, "check", "p", "--json", code=1)[0])
    assert (found["ok"], found["problems"][0]["kind"]) == (False, "annotation")


def test_upload_and_download(server, tmp_path):
    make_project(tmp_path / "p")
    out, _ = run(tmp_path, "upload", "p", "--workspace", WORKSPACE, **connection(server))
    assert out == (
        "uploaded 'p', project 101: 18 images, 3 annotations and 1 blob\n"
        f"open {server.address}/projects/101/datasets\n"
    )
    out, _ = run(
        tmp_path,
        "upload",
        "p",
        "--workspace",
        WORKSPACE,
        "--name",
        "second",
        "--json",
        **connection(server),
    )
    uploaded = as_json(out)
    assert (uploaded["title"], uploaded["resumed"]) == ("second", False)
    assert uploaded["url"] == f"{server.address}/projects/{uploaded['project']}/datasets"
    out, _ = run(tmp_path, "download", uploaded["project"], "down", "--json", **connection(server))
    assert as_json(out)["datasets"] == {"train": 12, "val": 6}
    assert check_project(tmp_path / "down") == []
    out, _ = run(tmp_path, "download", uploaded["project"], "down", **connection(server))
    assert "0 new blobs, 0 new or changed annotations" in out


def test_what_the_server_refuses_and_what_is_missing(server, tmp_path):
    _, err = run(tmp_path, "download", 5, "down", code=1, **connection(server))
    assert "projects.info: HTTP status 404: Not Found: no entity 5" in err
    _, err = run(
        tmp_path, "download", 5, "down", code=1, SERVER_ADDRESS=server.address, API_TOKEN="secret"
    )
    assert "Invalid API token" in err
    assert "secret" not in err
    _, err = run(
        tmp_path, "download", 5, "down", code=2, SERVER_ADDRESS=server.address, API_TOKEN=""
    )
    assert "API_TOKEN must hold" in err
    _, err = run(tmp_path, "download", 5, "down", "--server", "host", code=2, API_TOKEN="x")
    assert "server must be an address" in err
    _, err = run(tmp_path, "download", 5, "down", code=2, API_TOKEN="x", SERVER_ADDRESS="")
    assert "--server" in err
