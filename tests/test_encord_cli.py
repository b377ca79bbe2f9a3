"""`blobpack encord export|register` and `blobpack pack --encord`, run as a user types them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import encord_files
import pytest
from blobpack_command import as_json, run
from encord_files import ACCESS_POINT, BASE
from gatewayserver import serving

import blobpack
from blobpack import (
    DuplicateNameError,
    FormatError,
    PackageMissingError,
    SourceError,
    UnsafeNameError,
)
from blobpack.gateway.app import gateway_app
from blobpack.gateway.tokens import Keys
from blobpack.integrations.encord import (
    check_registration,
    read_registration,
    register,
    registration,
)

IMAGES = [name for name in encord_files.payloads() if name.endswith(".png")]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encord_files.blob(tmp_path)
    return tmp_path


def members(path):
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def test_export(here):
    out, err = run(
        *("encord", "export", "images.tar", "files", "--url", BASE, "--chunk", "4"),
        *("--metadata", "metadata.jsonl", "--skip-duplicate-urls"),
    )
    assert out == "left out 1 member: not an image\nwrote 2 files to files: 7 items, 7 URLs\n"
    assert err == "1 row of metadata belong to no item\n"
    paths = sorted(Path("files").iterdir())
    assert [check_registration(path) for path in paths] == [[], []]
    with blobpack.open("images.tar") as reader:
        made = registration(
            reader, BASE, metadata="metadata.jsonl", skip_duplicate_urls=True, chunk=4
        )
        assert [json.loads(path.read_text()) for path in paths] == list(made)


def test_export_of_several_kinds_and_objects(here):
    Path("objects.jsonl").write_text('{"kind": "videos", "url": "s3://bucket/v.mp4"}\n')
    out, _ = run(
        *("encord", "export", "images.tar", "files", "--url", BASE, "--json"),
        *("--kind", "image_groups=cats/*", "--kind", "image_sequences=dogs/*"),
        *("--objects", "objects.jsonl", "--access-point", ACCESS_POINT, "--form", "items"),
    )
    assert as_json(out) == {
        "command": "encord export",
        "folder": "files",
        "files": {"files/registration-00001.json": 4},
        "items": 4,
        "urls": 7,
        "skipped": {},
        "unused_rows": 0,
    }
    document = json.loads(Path("files/registration-00001.json").read_text())
    assert document["videos"] == [{"objectUrl": f"{ACCESS_POINT}/v.mp4"}]
    assert [each["createVideo"] for each in document["imageGroups"]] == [False, False, True]


def test_export_of_a_selection_as_csv(here):
    run(
        *("encord", "export", "images.tar", "files", "--url", BASE, "--form", "csv"),
        *("--filter", "*.png", "--min-width", "5", "--title", "basename"),
    )
    lines = Path("files/registration-00001.csv").read_text().splitlines()
    assert lines[:2] == ["ObjectURL,Image title", f"{BASE}/cats/0000.png,0000.png"]
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--url", "host/b/out"], 2, "--url must be an http(s):// URL"),
        (["--url", BASE, "--kind", "videos"], 2, "'videos' is none of images, image_groups"),
        (["--url", BASE, "--kind", "images="], 2, "is none of images"),
        (["--url", BASE, "--upsert-metadata"], 2, "no effect without skip_duplicate_urls"),
        (["--url", BASE, "--filter", "x"], 1, "there is nothing to register"),
        (["--url", BASE, "--kind", "image_sequences"], 1, "have different sizes"),
        (["--url", BASE, "--blobs"], 2, "is a local file"),
        ([], 2, "--url"),
    ],
)
def test_export_fails_and_leaves_nothing(here, options, code, says):
    before = sorted(here.iterdir())
    assert says in run("encord", "export", "images.tar", "files", *options, code=code)[1]
    assert sorted(here.iterdir()) == before


def test_export_replaces_no_folder(here):
    Path("files").mkdir()
    Path("files/mine").touch()
    _, err = run("encord", "export", "images.tar", "files", "--url", BASE, code=1)
    assert "files: already exists, and a registration is only written to a new" in err


def test_register_without_the_sdk(here):
    pytest.importorskip("blobpack")
    try:
        import encord  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("Encord's SDK is installed here")
    run("encord", "export", "images.tar", "files", "--url", BASE)
    given = ("--integration", "x", "--folder", "y")
    assert "pip install encord" in run("encord", "register", "files", *given, code=1)[1]
    with pytest.raises(PackageMissingError, match="pip install encord"):
        register("files", integration="x", folder="y")


def test_register_checks_files_before_the_sdk_is_needed(here):
    Path("bad.json").write_text('{"images": [{"objectUrl": "a b"}]}')
    Path("a.csv").write_text(f"ObjectURL,Image title\n{BASE}/a,\n")
    Path("none").mkdir()
    given = ("--integration", "x", "--folder", "y")
    assert (
        "bad.json: 1 problem:\n  images[0]"
        in run("encord", "register", "bad.json", *given, code=1)[1]
    )
    assert "upload it in Encord's web page" in run("encord", "register", "a.csv", *given, code=2)[1]
    assert "there are no .json files" in run("encord", "register", "none", *given, code=1)[1]
    assert run("encord", "register", *given, code=2)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"integration": 5}, TypeError),
        ({"integration": ""}, ValueError),
        ({"folder": ""}, ValueError),
        ({"domain": None}, TypeError),
        ({"key": 5}, TypeError),
        ({"key": "s3://b/key"}, ValueError),
        ({"ignore_errors": "no"}, TypeError),
        ({"wait": 2}, TypeError),
        ({"progress": "print"}, TypeError),
        ({"files": 5}, TypeError),
        ({"files": "nowhere.json"}, SourceError),
    ],
)
def test_wrong_arguments_of_register(here, options, error):
    good = {"files": [], "integration": "x", "folder": "y"}
    with pytest.raises(error):
        register(**good | options)


@pytest.fixture
def stored(s3_env, bucket):
    """Images in a bucket, and their URLs as Encord has them."""
    for name, data in encord_files.payloads().items():
        s3_env.put(bucket, f"imgs/{name}", data)
    quoted = {"cats/it's 1.png": "cats/it%27s%201.png", "cats/small/é.png": "cats/small/%C3%A9.png"}
    return {name: f"{s3_env.endpoint}/{bucket}/imgs/{quoted.get(name, name)}" for name in IMAGES}


def test_pack_a_json_of_encord(here, stored, bucket):
    urls = list(stored.values())
    document = {
        "images": [{"objectUrl": urls[0]}, {"objectUrl": f"s3://{bucket}/imgs/top.png"}],
        "image_groups": [
            {"title": "g", "objectUrl_1": urls[2], "objectUrl_0": urls[1]},
            # in the group, and alone: packed once
            {"title": "s", "createVideo": True, "objectUrl_0": urls[0]},
        ],
        "videos": [{"objectUrl": "https://h/v.mp4?X-Amz-Signature=secret"}] * 2,
        "dicom_series": [
            {"title": "s", "objectUrl_0": "https://h/1", "objectUrl_1": "https://h/2"}
        ],
        "skip_duplicate_urls": True,
    }
    Path("e.json").write_text(json.dumps(document))
    out, _ = run("pack", "--encord", "e.json", "out.tar", "--strip", "1")
    assert out.startswith("packed 4 members")
    assert "a video for Encord" in out
    assert "a DICOM series for Encord" in out
    assert "secret" not in out
    names = [IMAGES[0], IMAGES[1], IMAGES[2], "top.png"]
    assert members("out.tar") == {name: encord_files.payloads()[name] for name in names}
    found = as_json(run("pack", "--encord", "e.json", "out.tar", "--json")[0])
    assert found["skipped"] == {"a video for Encord": 2, "a DICOM series for Encord": 1}
    run("pack", "--encord", "e.json", "out.tar", "--skipped-to", "left.csv")
    assert Path("left.csv").read_text().splitlines()[1:] == [
        "https://h/v.mp4?…,a video for Encord",
        "https://h/v.mp4?…,a video for Encord",
        "https://h/1,a DICOM series for Encord",
    ]


def test_pack_data_upload_items_and_an_access_point(here, stored, bucket):
    document = {
        "imageGroups": [
            {
                "title": "g",
                "images": [{"url": f"{ACCESS_POINT}/imgs/dogs/{n}.png"} for n in ("0001", "0002")],
            }
        ],
        "scenes": [{"title": "s", "scene": {}}],
        "timeSeries": [{"objectUrl": "https://h/t.csv"}],
    }
    Path("e.json").write_text(json.dumps(document))
    out, _ = run("pack", "--encord", "e.json", f"s3://{bucket}", "out.tar")
    assert "a scene for Encord" in out
    assert "a time series for Encord" in out
    assert set(members("out.tar")) == {"imgs/dogs/0001.png", "imgs/dogs/0002.png"}
    # without a bucket, objects are read through the access point itself
    (one, _) = read_registration("e.json")._sources
    assert one.location.bucket == ACCESS_POINT
    assert one.location.key == "imgs/dogs/0001.png"


def test_pack_a_csv_of_encord(here, stored):
    urls = list(stored.values())
    Path("e.csv").write_text(
        f"ObjectURL,Image title\n{urls[0]},a\n"
        f"ObjectURL,Image group title,Create video\n{urls[3]},g,true\n"
        f"ObjectURL,Dicom title\nhttps://h/1,s\n"
    )
    out, _ = run("pack", "--encord", "e.csv", "out.tar", "--prefix", "x/", "--strip", "1")
    assert set(members("out.tar")) == {f"x/{IMAGES[0]}", f"x/{IMAGES[3]}"}
    assert "a DICOM series for Encord" in out


def test_a_single_column_means_videos(here):
    Path("e.csv").write_text(f"ObjectUrl\n{BASE}/a.png\n{BASE}/b.png\n")
    _, err = run("pack", "--encord", "e.csv", "out.tar", code=1)
    assert "nothing to pack" in err
    assert "a video for Encord, because the CSV has a single column" in err
    assert not Path("out.tar").exists()


def test_there_and_back_through_a_gateway(here, s3_env):
    """What export writes of a served blob, pack --encord packs into an equal blob."""
    with blobpack.open("images.tar") as reader, serving(gateway_app({"images": reader})) as client:
        run("encord", "export", "images.tar", "files", "--url", f"{client.url}/b/images")
        run("pack", "--encord", "files/registration-00001.json", "back.tar")
    expected = encord_files.payloads()
    del expected["notes.txt"]
    assert members("back.tar") == expected


def test_exported_urls_with_a_token_are_what_encords_pages_ask_for(here):
    keys = Keys({"team": "secret"})
    token = keys.token("images")
    with (
        blobpack.open("images.tar") as reader,
        serving(gateway_app({"images": reader}, keys=keys, require_token=True)) as client,
    ):
        base = f"{client.url}/k/{token}/b/images"
        run("encord", "export", "images.tar", "files", "--url", base)
        found = json.loads(Path("files/registration-00001.json").read_text())["images"]
        for item in found:
            path = item["objectUrl"].removeprefix(client.url)
            for method in ("HEAD", "GET"):
                answer = client.ask(path, method, Origin="https://app.encord.com")
                assert answer.status == 200
                assert answer.headers["access-control-allow-origin"] == "*"
                assert answer.headers["content-type"] == item["imageMetadata"]["mimeType"]
                assert int(answer.headers["content-length"]) == item["imageMetadata"]["fileSize"]
            assert answer.body == encord_files.payloads()[item["title"]]
            assert token not in item["title"]
    assert [item["title"] for item in found] == IMAGES


def write(document):
    Path("e.json").write_text(json.dumps(document))
    return "e.json"


@pytest.mark.parametrize(
    ("document", "error", "says"),
    [
        ({"images": [{"objectUrl": "a.png"}]}, FormatError, r"images\[0\]: a\.png is neither"),
        ({"images": [{}]}, FormatError, None),
        ({"images": ["x"]}, FormatError, r"e\.json: images\[0\]: expected an object"),
        ({"images": {}}, FormatError, r"e\.json: images: expected a list"),
        (
            {"images": [{"objectUrl": "https://h/a", "title": "../a"}]},
            UnsafeNameError,
            r"images\[0\]",
        ),
        (
            {
                "images": [
                    {"objectUrl": "https://h/1", "title": "a"},
                    {"objectUrl": "https://h/2", "title": "a"},
                ]
            },
            DuplicateNameError,
            "member 'a'",
        ),
    ],
)
def test_bad_files_to_pack(here, document, error, says):
    if says is None:
        # an item without a URL names nothing
        assert len(read_registration(write(document))) == 0
        return
    with pytest.raises(error, match=says):
        read_registration(write(document))


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://b.s3.eu-west-2.amazonaws.com/a%20b/1.png", "s3://b/a b/1.png"),
        ("https://my.b.s3-us-west-1.amazonaws.com/1.png", "s3://my.b/1.png"),
        ("https://b.s3.amazonaws.com/1.png", "s3://b/1.png"),
        ("https://b.s3.dualstack.eu-west-1.amazonaws.com/1.png", "s3://b/1.png"),
        ("https://b.s3.cn-north-1.amazonaws.com.cn/1.png", "s3://b/1.png"),
        ("https://s3.eu-west-2.amazonaws.com/b/1+1.png", "s3://b/1+1.png"),
        ("https://b.s3.amazonaws.com/1.png?X-Amz-Signature=x", None),
        ("https://b.s3.amazonaws.com.evil.org/1.png", None),
    ],
)
def test_urls_of_aws_are_read_with_your_credentials(here, url, location):
    (source,) = read_registration(write({"images": [{"objectUrl": url}]}))._sources
    assert source.location.whole == (location or url)


def test_arguments_of_pack_that_do_not_fit(here):
    path = write({"images": []})
    Path("files").mkdir()
    for more, says in (
        (["--manifest", path], "give --manifest or --encord"),
        (["files"], "--encord takes no -C"),
        (["-C", "."], "--encord takes no -C"),
    ):
        assert says in run("pack", "--encord", path, *more, "out.tar", code=2)[1]
    with pytest.raises(ValueError, match="base must be s3://bucket"):
        read_registration(path, "folder")
    with pytest.raises(SourceError):
        read_registration("nowhere")
