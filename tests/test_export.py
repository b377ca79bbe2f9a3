"""Exports for other annotation tools: what the files hold, and that each URL in them leads to its image."""

import io
import json
import re
import subprocess
import sys
import tracemalloc
import urllib.request
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from gatewayserver import serving
from PIL import Image
from s3server import new_session

import blobpack
from blobpack.errors import (
    BlobNotFoundError,
    FactsMissingError,
    FormatError,
    MemberNotFoundError,
    StorageError,
)
from blobpack.gateway.app import gateway_app
from blobpack.gateway.s3.face import s3_app
from blobpack.gateway.served.blobs import ServedBlobs
from blobpack.gateway.tokens import Keys
from blobpack.integrations.export import (
    FILE_NAMES,
    export_records,
    records as export_module,
    write_export,
)

PROGRAM = str(Path(sys.executable).with_name("blobpack"))
TOOLS = list(FILE_NAMES)
BASE = "http://127.0.0.1:8000/b/out"
BUCKET = "s3://bucket/imgs"


def png(width, height=3):
    with io.BytesIO() as file:
        Image.new("RGB", (width, height), (width, 0, 0)).save(file, "PNG")
        return file.getvalue()


IMAGES = {
    "a.png": png(4),
    "train/größe 1.png": png(5),
    "train/100%/#?.png": png(6),
    "val/none": png(7),
}
FILES = {**IMAGES, "notes.txt": b"no image", "broken.jpg": b"no image either"}


@pytest.fixture
def blob(tmp_path):
    blobpack.pack(FILES, tmp_path / "out.tar", all_files=True)
    return tmp_path / "out.tar"


def client_of(url):
    return new_session().client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="reader",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )


def url_for(tool):
    return {"cvat": None, "sagemaker": BUCKET}.get(tool, BASE)


def parsed(tool, text):
    """Read a file as its tool does, and return the records; all that stands around them is checked."""
    if tool == "coco":
        whole = json.loads(text)
        assert {name: whole[name] for name in whole if name != "images"} == {
            "info": {}, "licenses": [], "categories": [], "annotations": [],
        }  # fmt: skip
        return whole["images"]
    if tool == "label-studio":
        return json.loads(text)
    assert text == "" or text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    if tool == "cvat":
        assert lines[:2] == [{"version": "1.1"}, {"type": "images"}]
        return lines[2:]
    return lines


def name_in(tool, record):
    """Return the member that a record is about."""
    if tool == "cvat":
        return record["name"] + record["extension"]
    if tool == "label-studio":
        return record["data"]["name"]
    if tool == "sagemaker":
        return record["source-ref"].removeprefix(BUCKET + "/")
    return record["name" if tool == "fiftyone" else "file_name"]


def url_in(tool, record):
    if tool == "label-studio":
        return record["data"]["image"]
    return record[{"coco": "coco_url", "huggingface": "url", "fiftyone": "filepath"}[tool]]


class TestRecords:
    def test_label_studio(self, blob):
        first, *_, second, _ = export_records(blob, "label-studio", url=BASE)
        assert first == {
            "data": {"image": f"{BASE}/a.png", "name": "a.png", "width": 4, "height": 3}
        }
        assert second["data"]["image"] == f"{BASE}/train/100%25/%23%3F.png"

    def test_cvat(self, blob):
        found = list(export_records(blob, "cvat"))
        assert found[0] == {"name": "a", "extension": ".png", "width": 4, "height": 3}
        assert found[-1] == {"name": "val/none", "extension": "", "width": 7, "height": 3}

    def test_coco_ids_are_the_same_in_every_export(self, blob):
        with blobpack.open(blob) as reader:
            whole = {each["file_name"]: each for each in export_records(reader, "coco")}
            (part,) = export_records(reader, "coco", members=reader.index.select("val/*"))
            assert part == whole["val/none"]
            assert part["id"] == reader.index.row_of("val/none") + 1
        assert whole["a.png"] == {"id": 1, "file_name": "a.png", "width": 4, "height": 3}
        assert next(export_records(blob, "coco", url=BASE))["coco_url"] == f"{BASE}/a.png"

    def test_fiftyone(self, blob):
        assert next(export_records(blob, "fiftyone", url=BASE)) == {
            "filepath": f"{BASE}/a.png",
            "name": "a.png",
            "tags": [],
            "metadata": {
                "_cls": "ImageMetadata",
                "size_bytes": len(IMAGES["a.png"]),
                "mime_type": "image/png",
                "width": 4,
                "height": 3,
            },
        }

    def test_sagemaker_keys_are_not_encoded(self, blob):
        found = [each["source-ref"] for each in export_records(blob, "sagemaker", url=BUCKET + "/")]
        assert found == [f"{BUCKET}/{name}" for name in list(IMAGES)]

    def test_huggingface(self, blob):
        line = {"file_name": "a.png", "width": 4, "height": 3}
        assert next(export_records(blob, "huggingface")) == line
        assert next(export_records(blob, "huggingface", url=BASE)) == line | {
            "url": f"{BASE}/a.png"
        }

    @pytest.mark.parametrize("tool", TOOLS)
    def test_images_only_in_archive_order(self, blob, tool):
        found = [name_in(tool, each) for each in export_records(blob, tool, url=url_for(tool))]
        assert found == list(IMAGES)

    @pytest.mark.parametrize("tool", TOOLS)
    def test_a_member_that_was_replaced_is_left_out(self, tmp_path, tool):
        joined = tmp_path / "joined.tar"
        blobpack.pack({"a.png": png(4), "b.png": png(5)}, joined)
        blobpack.append(joined, {"a.png": png(9)}, duplicates="last")
        found = list(export_records(joined, tool, url=url_for(tool)))
        assert [name_in(tool, each) for each in found] == ["b.png", "a.png"]
        assert '"width": 9' in json.dumps(found[1])
        report = write_export(joined, io.BytesIO(), tool, url=url_for(tool))
        assert (report.images, report.left_out) == (2, 1)

    def test_a_collection_is_a_source_too(self, tmp_path):
        for number in (1, 2):
            blobpack.pack({f"{number}.png": png(number)}, tmp_path / f"{number}.tar")
        blobpack.collect(tmp_path)
        with blobpack.open(tmp_path) as reader, serving(gateway_app({"both": reader})) as client:
            found = list(export_records(reader, "coco", url=f"{client.url}/b/both"))
            assert [each["id"] for each in found] == [1, 2]
            for number, entry in enumerate(found, 1):
                with urllib.request.urlopen(entry["coco_url"]) as answer:
                    assert answer.read() == png(number)

    def test_selections(self, blob):
        def names(members):
            return [each["file_name"] for each in export_records(blob, "coco", members=members)]

        assert names(["val/none", "a.png", "a.png", "notes.txt"]) == ["a.png", "val/none"]
        assert names([]) == []
        with blobpack.open(blob) as reader:
            chosen = reader.index.select("train/*", min_width=6)
            found = list(export_records(reader, "huggingface", members=chosen))
        assert [each["width"] for each in found] == [6]


class TestUrls:
    """The URLs in each export, opened at a real server."""

    @pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool not in ("cvat", "sagemaker")])
    def test_the_gateway_serves_each_image(self, blob, tool, tmp_path):
        with (
            blobpack.open(blob) as reader,
            serving(gateway_app({"out": reader})) as client,
        ):
            target = tmp_path / FILE_NAMES[tool]
            write_export(reader, target, tool, url=f"{client.url}/b/out")
            found = parsed(tool, target.read_text())
            assert len(found) == len(IMAGES)
            for record in found:
                with urllib.request.urlopen(url_in(tool, record)) as answer:
                    assert answer.read() == IMAGES[name_in(tool, record)]
                    assert answer.headers["Content-Type"] == "image/png"

    @pytest.mark.parametrize("tool", ["cvat", "label-studio", "sagemaker"])
    def test_the_s3_face_has_each_key(self, blob, tool, no_aws):
        """CVAT's names are keys in the bucket of its storage; the others have s3:// URLs."""
        with (
            blobpack.open(blob) as reader,
            serving(s3_app(ServedBlobs({"out": reader}), Keys({"reader": "secret"}))) as server,
            closing(client_of(server.url)) as client,
        ):
            url = None if tool == "cvat" else "s3://out"
            for record in export_records(reader, tool, url=url):
                name = {
                    "cvat": lambda line: line["name"] + line["extension"],
                    "label-studio": lambda task: task["data"]["image"].removeprefix("s3://out/"),
                    "sagemaker": lambda line: line["source-ref"].removeprefix("s3://out/"),
                }[tool](record)
                answer = client.get_object(Bucket="out", Key=name)
                assert answer["Body"].read() == IMAGES[name]


class TestFiles:
    @pytest.mark.parametrize("tool", TOOLS)
    def test_a_file_holds_the_records(self, blob, tmp_path, tool):
        target = tmp_path / FILE_NAMES[tool]
        report = write_export(blob, target, tool, url=url_for(tool))
        records = list(export_records(blob, tool, url=url_for(tool)))
        assert parsed(tool, target.read_text()) == records
        assert (report.files, report.images, report.left_out) == ({str(target): 4}, 4, 2)
        assert str(report).startswith(f"exported 4 images to {target} in ")
        assert write_export(blob, target, tool, url=url_for(tool)).images == 4  # replaces its own

    @pytest.mark.parametrize("tool", TOOLS)
    def test_no_image_is_a_file_without_records(self, blob, tmp_path, tool):
        target = tmp_path / FILE_NAMES[tool]
        for _ in range(2):
            assert write_export(blob, target, tool, url=url_for(tool), members=[]).images == 0
            assert parsed(tool, target.read_text()) == []

    @pytest.mark.parametrize("tool", TOOLS)
    def test_a_chunk_is_a_file_of_its_own(self, blob, tmp_path, tool):
        report = write_export(
            blob, tmp_path / "out.json", tool, url=url_for(tool), chunk=3, force=True
        )
        paths = [tmp_path / "out.json", tmp_path / "out-2.json"]
        assert report.files == {str(paths[0]): 3, str(paths[1]): 1}
        found = [each for path in paths for each in parsed(tool, path.read_text())]
        assert found == list(export_records(blob, tool, url=url_for(tool)))
        assert "to 2 files, " in str(report)

    def test_the_limits_of_the_tools(self):
        forms = export_module.FORMS
        limits = {tool: (form.images_max, form.bytes_max) for tool, form in forms.items()}
        assert limits["label-studio"] == (250_000, 50_000_000)
        assert limits["sagemaker"] == (100_000, None)
        assert {limits[tool] for tool in ("coco", "cvat", "fiftyone", "huggingface")} == {
            (None, None)
        }

    @pytest.mark.parametrize(("images_max", "bytes_max"), [(2, None), (None, 250), (None, 1)])
    def test_a_file_ends_before_it_passes_a_limit(
        self, blob, tmp_path, monkeypatch, images_max, bytes_max
    ):
        form = export_module.FORMS["label-studio"]
        small = replace(form, images_max=images_max, bytes_max=bytes_max)
        monkeypatch.setitem(export_module.FORMS, "label-studio", small)
        report = write_export(blob, tmp_path / "tasks.json", "label-studio", url=BASE)
        assert [*report.files.values()] == ([1] * 4 if bytes_max == 1 else [2, 2])
        texts = [Path(path).read_text() for path in report.files]
        found = [task for text in texts for task in json.loads(text)]
        assert found == list(export_records(blob, "label-studio", url=BASE))
        if bytes_max == 250:
            assert all(len(text.encode()) <= 250 for text in texts)

    def test_a_folder_gets_the_usual_name(self, blob, tmp_path):
        report = write_export(blob, f"{tmp_path}/", "cvat")
        assert list(report.files) == [f"{tmp_path}/manifest.jsonl"]
        write_export(blob, tmp_path, "coco")
        assert (tmp_path / "images.json").exists()

    def test_s3(self, blob, bucket, s3_env):
        report = write_export(blob, f"s3://{bucket}/to/", "label-studio", url=BASE, chunk=2)
        assert list(report.files) == [
            f"s3://{bucket}/to/tasks.json",
            f"s3://{bucket}/to/tasks-2.json",
        ]
        body = s3_env.client.get_object(Bucket=bucket, Key="to/tasks-2.json")["Body"].read()
        assert len(json.loads(body)) == 2

    def test_an_open_file_gets_all_images(self, blob):
        file = io.BytesIO()
        report = write_export(blob, file, "label-studio", url=BASE)
        assert len(json.loads(file.getvalue())) == 4
        assert report.files == {}
        assert str(report).startswith("exported 4 images in ")

    @pytest.mark.parametrize("tool", TOOLS)
    def test_a_file_of_another_kind_is_not_replaced(self, blob, tmp_path, tool):
        target = tmp_path / FILE_NAMES[tool]
        other = '[{"data": 1}]\n' if target.suffix == ".json" else '{"mine": 1}\n'
        target.write_text(other)
        with pytest.raises(StorageError, match=re.escape(target.name)):
            write_export(blob, target, tool, url=url_for(tool))
        assert target.read_text() == other
        write_export(blob, target, tool, url=url_for(tool), force=True)
        assert target.read_text() != other

    def test_files_appear_all_or_none(self, blob, tmp_path):
        (tmp_path / "tasks-2.json").write_text("mine")
        before = sorted(tmp_path.iterdir())
        with pytest.raises(StorageError, match=r"tasks-2\.json"):
            write_export(blob, tmp_path / "tasks.json", "label-studio", url=BASE, chunk=2)
        assert sorted(tmp_path.iterdir()) == before

    def test_a_file_of_a_longer_export_is_not_taken_for_a_part_of_this_one(self, blob, tmp_path):
        target = tmp_path / "tasks.json"
        write_export(blob, target, "label-studio", url=BASE, chunk=1)
        whole = target.read_text()
        with pytest.raises(StorageError, match=r"tasks-3\.json: exists.*has 2 files"):
            write_export(blob, target, "label-studio", url=BASE, chunk=2)
        assert target.read_text() == whole
        write_export(blob, target, "label-studio", url=BASE, chunk=2, force=True)

    def test_memory_does_not_grow_with_the_images(self, tmp_path):
        small = png(1)
        blobpack.pack({f"{n:06}.png": small for n in range(30_000)}, tmp_path / "many.tar")
        with blobpack.open(tmp_path / "many.tar") as reader:
            assert next(export_records(reader, "cvat"))  # what is made once
            with (tmp_path / "m.jsonl").open("wb") as file:
                tracemalloc.start()
                try:
                    report = write_export(reader, file, "cvat")
                    peak = tracemalloc.get_traced_memory()[1]
                finally:
                    tracemalloc.stop()
        assert report.images == 30_000
        # the records of all images would take 15 MB
        assert peak < 4_000_000


class TestErrors:
    def test_misuse_names_the_argument(self, blob, tmp_path):
        for error, word, wrong in (
            (ValueError, "tool", {"tool": "paint"}),
            (TypeError, "source", {"source": 5}),
            (TypeError, "url", {"url": 5}),
            (ValueError, "url must begin", {"url": "s3://bucket"}),
            (ValueError, "url must begin", {"url": "http://"}),
            (ValueError, "white space", {"url": "http://host/a b"}),
            (ValueError, "query", {"url": "http://host/b/out?token=1"}),
            (ValueError, "query", {"url": "http://[bad/b/out#"}),
            (TypeError, "members", {"members": "a.png"}),
            (MemberNotFoundError, "none", {"members": ["none"]}),
            (BlobNotFoundError, "nowhere", {"source": tmp_path / "nowhere.tar"}),
        ):
            right = {"source": blob, "tool": "coco", "url": BASE} | wrong
            with pytest.raises(error, match=word):
                next(export_records(**right))
            with pytest.raises(error, match=word):
                write_export(target=tmp_path / "images.json", **right)
        for error, word, wrong in (
            (TypeError, "target", {"target": 5}),
            (ValueError, "target", {"target": "http://host/images.json"}),
            (ValueError, r"target.*must end in \.json", {"target": "images.jsonl"}),
            (TypeError, "chunk", {"chunk": 1.5}),
            (ValueError, "chunk", {"chunk": 0}),
            (TypeError, "force", {"force": "no"}),
        ):
            with pytest.raises(error, match=word):
                write_export(**{"source": blob, "target": tmp_path, "tool": "coco"} | wrong)
        assert sorted(tmp_path.iterdir()) == [blob]

    def test_the_blob_itself_is_never_replaced(self, blob):
        before = blob.read_bytes()
        with pytest.raises(ValueError, match=r"target .* is the blob itself"):
            write_export(blob, blob, "coco", force=True)
        assert blob.read_bytes() == before

    @pytest.mark.parametrize("tool", ["fiftyone", "label-studio", "sagemaker"])
    def test_a_tool_that_reads_urls_needs_one(self, blob, tool):
        with pytest.raises(ValueError, match=r"^url must be given, .* url='(http|s3)://…'"):
            export_records(blob, tool)

    def test_cvat_takes_none(self, blob):
        with pytest.raises(ValueError, match="url must not be given"):
            export_records(blob, "cvat", url=BASE)

    def test_a_secret_is_not_shown(self, blob):
        with pytest.raises(ValueError, match="url must begin") as caught:
            export_records(blob, "sagemaker", url="http://host/k/SECRET/b/out")
        assert "SECRET" not in str(caught.value)
        report = write_export(blob, io.BytesIO(), "coco", url="http://u:SECRET@host/k/SECRET/b/out")
        assert report.first_url == "http://…@host/k/…/b/out/a.png"

    def test_an_index_without_facts_says_how_to_get_them(self, tmp_path):
        blobpack.pack({"a.png": png(1)}, tmp_path / "bare.tar", facts=False)
        with pytest.raises(FactsMissingError, match=r"no media type .*`blobpack index --facts"):
            next(export_records(tmp_path / "bare.tar", "huggingface"))

    def test_images_of_unknown_size_are_left_out_where_the_tool_needs_it(self, tmp_path):
        svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
        blobpack.pack({"a.svg": svg, "b.png": png(2)}, tmp_path / "out.tar")
        with blobpack.open(tmp_path / "out.tar") as reader:
            assert reader.index.get("a.svg").width is None
            assert len([*export_records(reader, "cvat")]) == 1
            assert len([*export_records(reader, "huggingface")]) == 2
            (task, _) = export_records(reader, "label-studio", url=BASE)
            assert task["data"].keys() == {"image", "name"}

    def test_a_name_that_is_not_utf8_is_named(self, tmp_path):
        blobpack.pack({"a.png": png(1), "b\udcff.png": png(2)}, tmp_path / "out.tar")
        with blobpack.open(tmp_path / "out.tar") as reader:
            with pytest.raises(FormatError, match=r"'b\\udcff\.png': .*not UTF-8") as caught:
                write_export(reader, tmp_path / "images.json", "coco")
            assert caught.value.offset == reader.index[1].offset_start
            assert not (tmp_path / "images.json").exists()
            rest = reader.index.select(exclude=["b*"])
            assert write_export(reader, tmp_path / "images.json", "coco", members=rest).images == 1


class TestCommand:
    def run(self, blob, *arguments, code=0):
        done = subprocess.run(
            [PROGRAM, "export", *arguments],
            cwd=blob.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout, done.stderr

    @pytest.mark.parametrize("tool", TOOLS)
    def test_the_usual_file_is_written_here(self, blob, tool):
        url = url_for(tool)
        out, err = self.run(blob, tool, "out.tar", *(["--url", url] if url else []))
        lines = out.splitlines()
        assert lines[0].startswith(f"exported 4 images to {FILE_NAMES[tool]} in ")
        assert lines[1:] == ([f"the first one: {url}/a.png"] if url else [])
        assert err.startswith("left out: 2 members (no image")
        assert len(parsed(tool, (blob.parent / FILE_NAMES[tool]).read_text())) == 4

    def test_options_select(self, blob):
        selections = ["--filter", "train/*", "--min-width", "6"]
        out, err = self.run(blob, "coco", "out.tar", *selections, "-o", "-")
        assert [each["width"] for each in parsed("coco", out)] == [6]
        assert err.startswith("exported 1 image in ")

    def test_chunks_and_force(self, blob):
        out, _ = self.run(blob, "huggingface", "out.tar", "--chunk", "3")
        assert out.startswith("exported 4 images to 2 files, metadata.jsonl to metadata-2.jsonl")
        _, err = self.run(blob, "huggingface", "out.tar", code=1)
        assert "--force leaves it" in err
        self.run(blob, "huggingface", "out.tar", "--force")

    def test_wrong_usage(self, blob):
        for word, line in (
            ("--url must be given", ["label-studio", "out.tar"]),
            ("--url must not be given", ["cvat", "out.tar", "--url", BASE]),
            ("-o 'x.csv' must end in .json", ["coco", "out.tar", "-o", "x.csv"]),
            ("--chunk needs files", ["coco", "out.tar", "-o", "-", "--chunk", "1"]),
        ):
            assert word in self.run(blob, *line, code=2)[1]
