"""Pixano 0.8: its importer test kit, its command line, its Python and REST interfaces and its pages, from a blob."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pixano_library as library
import pytest
from gatewayserver import serving as serving_blob
from js_reader import chromium
from pixano.datasets import Dataset
from pixano.datasets.io import (
    FORMATS,
    AnalyzeLimits,
    FormatDetectionError,
    ImportSpec,
    SourceRef,
    SpecValidationError,
    analyze,
    import_dataset,
    namespace_prefix,
)
from pixano.datasets.io.testing import DatasetImporterTestCase
from pixano_server import PixanoServer, serving, shots, shown_images, wait_until_drawn

import blobpack
from blobpack.gateway.app import gateway_app
from blobpack.integrations.pixano import BlobImporter
from blobpack.opening.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

__all__ = ["chromium", "shots"]

PIXANO = str(Path(sys.executable).with_name("pixano"))
GATEWAY = "http://127.0.0.1:8000/b/health"
COUNTS = {"records": 10, "images": 10, "entities": 9, "bboxes": 9, "keypoints": 9}
MEDIA = {
    "embedded": {"mode": "embed"},
    "filesystem": {"mode": "uri", "uri_prefix": GATEWAY},
}


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "health.tar"
    blobpack.pack(library.members("0.8"), path, all_files=True)
    return path


def spec_of(**fields: Any) -> ImportSpec:
    return ImportSpec.model_validate({"dataset": {"name": "Health"}, **fields})


@pytest.mark.parametrize("form", ["0.6", "0.7", "0.8"])
@pytest.mark.parametrize("mode", MEDIA)
def test_the_importer_passes_the_kit(mode, form, blob, tmp_path):
    blobpack.pack(library.members(form), blob, all_files=True)
    case = DatasetImporterTestCase(BlobImporter(), blob, spec_of(media=MEDIA[mode]), COUNTS)
    assert not case.assert_analyze_clean().findings
    (tmp_path / "data").mkdir()
    dataset, result = case.run_import(tmp_path / "data")
    assert result.table_counts == COUNTS
    case.assert_counts(dataset)
    case.assert_id_prefix(dataset, namespace_prefix("health.tar"))
    case.assert_storage_mode(dataset, mode)
    case.assert_idempotent_rerun(dataset, tmp_path / "data")


def rows_of(dataset: Dataset) -> dict[str, list[dict[str, Any]]]:
    """All rows without ids, which depend on the source, and times."""
    found = {}
    for table in COUNTS:
        rows = [row.model_dump() for row in dataset.get_data(table, limit=100)]
        found[table] = sorted(
            (
                {
                    name: value
                    for name, value in row.items()
                    if not name.endswith(("id", "_at")) and not name.startswith("preview")
                }
                for row in rows
            ),
            key=repr,
        )
    return found


def test_a_dataset_equals_that_of_the_unpacked_folder(blob, tmp_path):
    folder = tmp_path / "health"
    library.write_folder(folder, "0.8")
    schema = {
        "views": {"image": "image"},
        "record": {"attrs": {"image_type": "str"}},
        "entity": {"attrs": {"category": "str"}},
        "annotations": ["bbox", "keypoint"],
    }
    spec = spec_of(schema=schema)
    own = import_dataset(folder, tmp_path / "own", spec_of(schema=schema, format="pixano_jsonl"))
    result = import_dataset(blob, tmp_path / "data", spec)
    mine, theirs = Dataset(result.dataset_path), Dataset(own.dataset_path)
    assert rows_of(mine) == rows_of(theirs)
    payloads = [
        {
            dataset.get_view_binary("images", image.id)
            for image in dataset.get_data("images", limit=100)
        }
        for dataset in (mine, theirs)
    ]
    assert payloads[0] == payloads[1]
    assert len(payloads[0]) == 10
    # without a schema, it is made of the metadata
    inferred = import_dataset(blob, tmp_path / "inferred", spec_of())
    assert rows_of(Dataset(inferred.dataset_path)) == rows_of(theirs)


def test_images_by_url_are_not_read(blob, tmp_path, monkeypatch):
    def fail(*_):
        pytest.fail("an image was read")

    monkeypatch.setattr(Reader, "read_many", fail)
    result = import_dataset(blob, tmp_path / "data", spec_of(media=MEDIA["filesystem"]))
    images = Dataset(result.dataset_path).get_data("images", limit=100)
    assert {image.uri for image in images} == {f"{GATEWAY}/all/{name}" for name in library.NAMES}
    sizes = {image.uri.rpartition("/")[2]: (image.width, image.height) for image in images}
    assert sizes == {name: library.size_of(at) for at, name in enumerate(library.NAMES)}
    assert {image.format for image in images} == {"JPEG", "PNG"}


def test_an_import_goes_on_behind_any_record(blob):
    importer, source, spec = BlobImporter(), SourceRef.from_string(str(blob)), spec_of()
    plan = importer.analyze(source, spec, AnalyzeLimits())
    batches = list(importer.iter_batches(source, spec, plan))
    assert [batch.cursor for batch in batches] == [{"records": n} for n in range(1, 11)]
    rest = list(importer.iter_batches(source, spec, plan, cursor={"records": 7}))
    assert [batch.tables["records"][0].id for batch in rest] == [
        batch.tables["records"][0].id for batch in batches[7:]
    ]
    before = importer.source_fingerprint(source, spec)
    assert BlobImporter().source_fingerprint(source, spec) == before
    blobpack.pack(library.members("0.6"), blob, all_files=True)
    assert importer.source_fingerprint(source, spec) != before


def test_analysing_reports_every_line_that_can_not_be_imported(blob, tmp_path):
    lines = library.metadata("0.8").splitlines()
    lines[1] = lines[1].replace(b"0.125", b"-0.125", 1)
    lines[2] = b"no JSON"
    lines[9] = lines[9].replace(b"photo-eye", b"photo-ear")
    members = library.members("0.8") | {"all/metadata.jsonl": b"\n".join(lines)}
    blobpack.pack(members, blob, all_files=True)
    report = analyze(blob, spec_of()).report
    found = {
        (code, sample.line or sample.record_key)
        for code, finding in report.findings.items()
        for sample in finding.samples
    }
    assert found == {
        ("invalid_record", "all/metadata.jsonl, line 2"),
        ("invalid_line", 3),
        ("invalid_line", 10),
    }
    with pytest.raises(SpecValidationError, match="3 error"):
        import_dataset(blob, tmp_path / "data", spec_of())
    assert not (tmp_path / "data" / "library").exists()


def test_what_is_recognised_as_a_source(blob, tmp_path):
    def detected(path: Path) -> str:
        return FORMATS.detect(SourceRef.from_string(str(path))).name

    assert detected(blob) == "blobpack"
    folder = tmp_path / "source"
    library.write_folder(folder, "0.8")
    assert detected(folder) == "pixano_jsonl"
    for name in library.NAMES:
        (folder / "all" / name).unlink()
    shutil.copy(blob, folder)
    assert detected(folder) == "blobpack"
    (tmp_path / "text.txt").write_text("no blob")
    with pytest.raises(FormatDetectionError):
        detected(tmp_path / "text.txt")


def test_the_command_line_imports_a_blob_without_any_option(blob, tmp_path):
    (tmp_path / "data").mkdir()
    done = subprocess.run(
        [PIXANO, "data", "import", "data", blob, "--yes"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'health' imported successfully (10 record(s), storage: embedded" in done.stdout
    assert (
        "- blobpack ("
        in subprocess.run(
            [PIXANO, "data", "formats"], capture_output=True, text=True, check=True
        ).stdout
    )


def test_a_folder_names_a_remote_blob_and_has_its_metadata(blob, tmp_path):
    source = tmp_path / "source"
    (source / "all").mkdir(parents=True)
    (source / "all" / "metadata.jsonl").write_bytes(library.metadata("0.8"))
    blobpack.pack(library.members(None), blob)
    with blobpack.open(blob) as reader, serving_blob(gateway_app({"health": reader})) as gateway:
        (source / "dataset.yaml").write_text(
            "format: blobpack\n"
            "dataset: {name: Remote}\n"
            f"media: {{mode: uri, uri_prefix: '{gateway.url}/b/health'}}\n"
            f"options: {{blob: '{gateway.url}/raw/health', previews: true}}\n"
        )
        spec = ImportSpec.from_yaml(source / "dataset.yaml")
        result = import_dataset(source, tmp_path / "data", spec)
        assert result.table_counts == COUNTS
        for image in Dataset(result.dataset_path).get_data("images", limit=100):
            at = library.NAMES.index(image.uri.rpartition("/")[2])
            assert image.open().size == library.size_of(at)
            assert image.preview.startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"media": {"mode": "uri"}}, "uri_prefix"),
        ({"options": {"blob": "none.tar"}}, "none.tar"),
        ({"options": {"blobs": "health.tar"}}, "blobs"),
        ({"options": {"metadata": "none"}}, "no metadata at"),
    ],
)
def test_a_wrong_spec_is_a_finding(fields, said, blob):
    findings = analyze(blob, spec_of(**fields)).report.findings
    assert said in findings["invalid_source"].suggestion


def test_create_read_update_and_delete(blob, tmp_path):
    dataset = Dataset(import_dataset(blob, tmp_path / "data", spec_of()).dataset_path)
    box = dataset.get_data("bboxes", limit=1)[0]
    new = box.model_copy(update={"id": "new", "coords": [0.0, 0.0, 0.5, 0.5]})
    dataset.add_data("bboxes", [new])
    assert dataset.get_data("bboxes", ids=["new"])[0].coords == [0.0, 0.0, 0.5, 0.5]
    dataset.update_data("bboxes", [new.model_copy(update={"confidence": 0.5})])
    assert dataset.get_data("bboxes", ids=["new"])[0].confidence == 0.5
    dataset.delete_data("bboxes", ["new"])
    assert not dataset.get_data("bboxes", ids=["new"])

    record = dataset.get_records(limit=1)[0]
    dataset.merge_records({"records": [record.model_copy(update={"image_type": "scan"})]})
    assert dataset.get_records(record.id).image_type == "scan"
    dataset.delete_records([record.id])
    assert len(dataset.get_records(limit=100)) == 9
    dataset.add_records({"records": [record]})
    assert len(dataset.get_records(limit=100)) == 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PixanoServer]:
    """Pixano's server with two datasets of one blob: one that stores its images, and one that has them at a gateway."""
    folder = tmp_path_factory.mktemp("served")
    path = folder / "health.tar"
    blobpack.pack(library.members("0.8"), path, all_files=True)
    with blobpack.open(path) as reader, serving_blob(gateway_app({"health": reader})) as gateway:
        media = {"mode": "uri", "uri_prefix": f"{gateway.url}/b/health"}
        import_dataset(path, folder / "data", spec_of())
        import_dataset(path, folder / "data", spec_of(dataset={"name": "By URL"}, media=media))
        with serving("pixano", "server", "run", folder / "data", "--port", "0") as running:
            yield running


def dataset_id(server: PixanoServer, name: str) -> str:
    return next(each["id"] for each in server.ask("/datasets")[1] if each["name"] == name)


@pytest.mark.parametrize("name", ["Health", "By URL"])
def test_rest(name, server):
    place = f"/datasets/{dataset_id(server, name)}"
    assert server.ask(f"{place}/records?limit=100")[1]["total"] == 10
    status, listed = server.ask(f"{place}/images?limit=100")
    assert (status, listed["total"]) == (200, 10)
    for image in listed["items"]:
        at = [library.size_of(at) for at in range(10)].index((image["width"], image["height"]))
        if name == "Health":
            assert server.ask(image["src"]) == (200, library.image_of(at))
        else:
            assert image["src"].endswith(f"/b/health/all/{library.NAMES[at]}")
    box = server.ask(f"{place}/bboxes?limit=100")[1]["items"][0]
    status, _ = server.ask(f"{place}/bboxes/{box['id']}", "PUT", box | {"confidence": 0.25})
    assert status == 200
    assert server.ask(f"{place}/bboxes/{box['id']}")[1]["confidence"] == 0.25
    assert server.ask(f"{place}/bboxes/{box['id']}", "DELETE")[0] in (200, 204)
    assert server.ask(f"{place}/bboxes/{box['id']}")[0] == 404
    assert server.ask(f"{place}/bboxes", "POST", box)[0] in (200, 201)
    assert server.ask(f"{place}/bboxes?limit=100")[1]["total"] == library.COUNTS["objects"]


@pytest.mark.parametrize(("name", "part"), [("Health", "/preview"), ("By URL", "/b/health/all/")])
def test_the_pages_in_chromium(name, part, server, chromium: Browser, shots: Path):
    page = chromium.new_page(viewport={"width": 1280, "height": 720})
    failed = []
    page.on("response", lambda answer: answer.status >= 400 and failed.append(answer.url))
    page.goto(f"{server.url}/#/explorer/{dataset_id(server, name)}")
    assert len(shown_images(page, part)) == 10
    shot = f"pixano-08-{'stored' if name == 'Health' else 'by-url'}"
    page.screenshot(path=shots / f"{shot}-explorer.png", animations="disabled")
    page.locator(f"img[src*='{part}']").last.click()
    page.get_by_text("1 / 10").or_(page.get_by_text("10 / 10")).first.wait_for()
    wait_until_drawn(page)
    page.screenshot(path=shots / f"{shot}-item.png", animations="disabled")
    assert not failed
    page.close()
