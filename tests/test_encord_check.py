"""The check of files for Encord finds what Encord refuses, and what it ignores without a word."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from encord_files import BASE
from hypothesis import given, settings, strategies as st

from blobpack import BlobpackError, FormatError, SourceError
from blobpack.integrations.encord import check_registration, read_registration
from blobpack.integrations.encord.form.kinds import DICOM_TAGS

URL = f"{BASE}/a.png"
IMAGE = {"objectUrl": URL}


def problems(file):
    return list(map(str, check_registration(file)))


@pytest.mark.parametrize(
    "document",
    [
        {"images": [IMAGE]},
        {"images": [{**IMAGE, "title": None, "externalFileType": "IMAGE"}]},
        {"image_groups": [{"title": "g", "objectUrl_0": URL, "objectUrl_1": URL}]},
        {"imageGroups": [{"title": "g", "images": [{"url": URL}]}], "skipDuplicateUrls": True},
        {"imageGroupsFromItems": [{"imageItems": []}]},
        {"videos": [{"objectUrl": "s3://bucket/v.mp4"}], "skip_duplicate_urls": True},
        {"images": [IMAGE], "skip_duplicate_urls": True, "upsert_metadata": True},
    ],
)
def test_good_files(document):
    assert problems(document) == []


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({}, ["there are no items"]),
        ({"images": []}, ["there are no items"]),
        ({"images": {}}, ["images: must be a list, not {}", "there are no items"]),
        ({"images": ["x"]}, ["images[0]: must be an object, not 'x'"]),
        ({"images": [{}]}, ["images[0]: objectUrl is no text, but None"]),
        ({"images": [{"objectUrl": "a.png"}]}, ["images[0]: objectUrl is neither"]),
        ({"images": [{"objectUrl": "https://h/a b"}]}, ["images[0]: objectUrl holds white space"]),
        ({"images": [{"objectUrl": "https://h/" + "x" * 16_000}]}, ["images[0]: objectUrl has"]),
        ({"images": [{**IMAGE, "title": "x" * 301}]}, ["images[0]: title has 301 characters"]),
        ({"images": [{**IMAGE, "title": 5}]}, ["images[0]: title must be a text"]),
        ({"images": [{**IMAGE, "tilte": "x"}]}, ["images[0]: 'tilte' is no key of"]),
        ({"images": [{**IMAGE, "clientMetadata": []}]}, ["images[0].clientMetadata: client"]),
        (
            {"images": [{**IMAGE, "clientMetadata": {"keyframes": ["1"]}}]},
            ["images[0].clientMetadata: 'keyframes' must be"],
        ),
        (
            {"images": [{**IMAGE, "imageMetadata": {"width": 1.5, "fileSize": True, "x": 1}}]},
            [
                "images[0]: imageMetadata needs mimeType",
                "images[0]: imageMetadata needs fileSize",
                "images[0]: imageMetadata needs height",
                "images[0]: imageMetadata needs width",
                "images[0]: imageMetadata has an unknown key 'x'",
            ],
        ),
        ({"images": [{**IMAGE, "imageMetadata": 5}]}, ["images[0]: imageMetadata must be"]),
        ({"image_groups": [{"title": "g"}]}, ["image_groups[0]: has no objectUrl_0"]),
        ({"image_groups": [{"objectUrl_0": URL}]}, ["image_groups[0]: has no title"]),
        (
            {"image_groups": [{"title": "g", "objectUrl_0": URL, "objectUrl_2": URL}]},
            ["image_groups[0]: has 2 URLs, but no objectUrl_1"],
        ),
        (
            {"image_groups": [{"title": "g", "objectUrl_0": URL, "createVideo": "true"}]},
            ["image_groups[0]: createVideo must be true or false"],
        ),
        # what the SDK drops or demands in its own form
        (
            {"imageGroups": [{"title": "g", "objectUrl_0": URL}]},
            [
                "imageGroups[0]: images must be a list",
                "imageGroups[0]: 'objectUrl_0' is no key of",
            ],
        ),
        (
            {"imageGroups": [{"title": "g", "images": [{"url": URL, "objectUrl": URL}, "x"]}]},
            ["imageGroups[0].images[0]: 'objectUrl' is ignored", "imageGroups[0].images[1]: must"],
        ),
        (
            {"dicomSeries": [{"title": "s", "dicomFiles": [{"url": URL}]}]},
            ["dicomSeries[0].dicomFiles[0]: has no key title"],
        ),
        (
            {"images": [IMAGE], "image_groups": [], "skipDuplicateUrls": True},
            ["image_groups: is no key of DataUploadItems, and is ignored"],
        ),
        ({"images": [IMAGE], "photos": []}, ["photos: is no key of a JSON file"]),
        ({"images": [IMAGE], "skip_duplicate_urls": 1}, ["skip_duplicate_urls: must be true"]),
        ({"images": [IMAGE], "upsert_metadata": True}, ["upsert_metadata: has no effect"]),
    ],
)
def test_problems(document, found):
    came = problems(document)
    assert len(came) == len(found), came
    assert all(one.startswith(begin) for one, begin in zip(came, found, strict=True)), came
    assert problems(json.dumps(document)) == came


def test_tags_of_dicom():
    tags = {tag: None for tag in DICOM_TAGS if tag != "00280010"}
    file = {"url": URL, "title": None, "dicomMetadata": {"tags": tags}}
    (problem,) = problems({"dicomSeries": [{"title": "s", "dicomFiles": [file]}]})
    assert problem.endswith("dicomMetadata needs the DICOM tag 00280010")


def test_counts(monkeypatch):
    monkeypatch.setattr("blobpack.integrations.encord.form.problems.ITEMS_MAX", 1)
    monkeypatch.setattr("blobpack.integrations.encord.form.problems.URLS_MAX", 2)
    group = {"title": "g", "objectUrl_0": URL, "objectUrl_1": URL, "objectUrl_2": URL}
    assert problems({"images": [IMAGE] * 2}) == [
        "2 items, and Encord accepts 1 in a file",
    ]
    assert problems({"image_groups": [group]}) == ["3 URLs, and Encord accepts 2 in a file"]
    header = "ObjectURL,Image group title,Create video\n"
    assert problems(header + f"{URL},g,false\n" * 3) == ["3 URLs, and Encord accepts 2 in a file"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"ObjectURL,Image title\n{URL},a\n", []),
        (f"\ufeffobjecturl, image title\n\n{URL},\n", []),
        (f"ObjectURL\n{URL}\n", ["line 2: the single column ObjectURL means videos to Encord"]),
        (f"ObjectURL,Name\n{URL},a\n", ["line 2: 'Name' is no column of titles"]),
        (f"ObjectURL,Image title\n{URL}\n", ["line 2: has 1 cell below 2"]),
        ("ObjectURL,Image title\nhttps://h/a b,x\n", ["line 2: ObjectURL holds white space"]),
        (f"ObjectURL,Image group title\n{URL},g\n", ["line 2: the third column must be"]),
        (f"ObjectURL,Dicom title\n{URL},\n", ["line 2: has no Dicom title"]),
        (f"ObjectURL,Image title\n{URL},{'x' * 301}\n", ["line 2: title has 301"]),
        (f"{URL},a\n", ["the file: the first line does not begin with ObjectURL"]),
        ('ObjectURL,Image title\n"a\n', ["the file, line"]),
        ("ObjectURL,Image title\n", ["there are no items"]),
        ("{\n", ["the file: not JSON"]),
        ("[1]", ["the file: expected a JSON object"]),
        ('{"a":' * 100_000, ["the file"]),
    ],
)
def test_texts(text, found, tmp_path):
    came = problems(text)
    assert len(came) == len(found), came
    assert all(one.startswith(begin) for one, begin in zip(came, found, strict=True)), came
    path = tmp_path / "file"
    path.write_text(text)
    assert problems(path) == came
    assert problems(str(path)) == came


def test_files_that_can_not_be_read(tmp_path):
    with pytest.raises(SourceError, match="nowhere"):
        check_registration(tmp_path / "nowhere")
    (tmp_path / "latin1").write_bytes(b"{\xff")
    with pytest.raises(FormatError, match="not UTF-8"):
        check_registration(tmp_path / "latin1")
    with pytest.raises(TypeError, match="path"):
        check_registration(5)


KEYS = st.sampled_from(
    [
        *(
            "images",
            "image_groups",
            "imageGroups",
            "videos",
            "dicom_series",
            "dicomSeries",
            "scenes",
        ),
        *("objectUrl", "objectUrl_0", "objectUrl_1", "url", "title", "createVideo", "dicomFiles"),
        *("clientMetadata", "imageMetadata", "dicomMetadata", "tags", "keyframes", "$encord"),
        *("frames", "skip_duplicate_urls", "upsertMetadata", "x"),
    ]
)
LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    st.sampled_from([URL, "s3://bucket/k", "https://h/a b", "arn:aws:s3::1:accesspoint/x", "//"]),
)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
)


@given(st.dictionaries(KEYS, DOCUMENTS, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_json_has_problems_or_none(document):
    came = problems(document)
    assert all(isinstance(one, str) for one in came)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "e.json")
        path.write_text(json.dumps(document))
        assert len(problems(path)) == len(came)
        # what is packed is what has no problem, or it is an error that names the file
        with suppress(BlobpackError):
            read_registration(path)


@given(st.text(alphabet='ObjectURL,Image title"\n\r\0é', max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_has_problems_or_none(text):
    header = "ObjectURL,Image title\n"
    for whole in (f"{text}\n", f"{header}{text}"):
        assert all(isinstance(one, str) for one in problems(whole))
