"""Files that register a blob's members with Encord: kinds, forms, titles, metadata, splits and URLs."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from pathlib import Path
from urllib.parse import unquote_to_bytes

import encord_files
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from encord_files import ACCESS_POINT, BASE, OBJECTS, TOKEN_BASE, png

import blobpack
from blobpack import (
    DuplicateNameError,
    FactsMissingError,
    FormatError,
    MemberNotFoundError,
    SourceError,
)
from blobpack.integrations.encord import (
    CloudObject,
    blob_objects,
    check_registration,
    object_registration,
    read_objects,
    registration,
)
from blobpack.integrations.encord.form import kinds
from blobpack.integrations.encord.member_items import natural

IMAGES = [name for name in encord_files.payloads() if name.endswith(".png")]


@pytest.fixture
def reader(tmp_path):
    with blobpack.open(encord_files.blob(tmp_path)) as reader:
        yield reader


def one(made):
    (document,) = made
    return document


def urls_in(text):
    return re.findall(r'https://images\.example\.org/[^",\n]+', text)


def test_the_json_of_images(reader):
    document = one(registration(reader, BASE, members=["cats/it's 1.png"]))
    assert document == {
        "images": [
            {
                "objectUrl": f"{BASE}/cats/it%27s%201.png",
                "title": "cats/it's 1.png",
                "imageMetadata": {
                    "mimeType": "image/png",
                    "fileSize": len(png(4, 4)),
                    "width": 4,
                    "height": 4,
                },
            }
        ],
        "skip_duplicate_urls": False,
        "upsert_metadata": False,
    }


def test_the_data_upload_items_of_groups(reader):
    made = registration(
        reader,
        BASE,
        "image_groups",
        members=reader.index.select("cats/small/*"),
        form="items",
        image_metadata="none",
        skip_duplicate_urls=True,
    )
    url = f"{BASE}/cats/small/%C3%A9.png"
    assert one(made) == {
        "imageGroups": [
            {
                "images": [{"url": url, "title": "cats/small/é.png"}],
                "title": "cats/small",
                "createVideo": False,
            }
        ],
        "skipDuplicateUrls": True,
        "upsertMetadata": False,
    }


@pytest.mark.parametrize("form", ["json", "items"])
@pytest.mark.parametrize("name", encord_files.FILES)
def test_every_file_passes_our_check(name, form, tmp_path):
    documents = encord_files.make(name, tmp_path, form)
    assert len(documents) == (3 if name == "chunks" else 1)
    for document in documents:
        assert check_registration(document) == []
        assert check_registration(json.dumps(document)) == []


@pytest.mark.parametrize("form", ["json", "items"])
def test_dicts_texts_and_files_hold_the_same(reader, tmp_path, form):
    kind = {"images": reader.index.select("cats/*"), "image_groups": reader.index.select("dogs/*")}

    def made(**options):
        return registration(reader, BASE, kind, form=form, objects=OBJECTS, chunk=4, **options)

    dicts = list(made())
    assert [json.loads(text) for text in made(output="texts")] == dicts
    paths = list(made(output="files", folder=tmp_path))
    assert [path.name for path in paths] == [f"registration-{n:05}.json" for n in range(1, 4)]
    assert [json.loads(path.read_text()) for path in paths] == dicts


def test_urls_are_stable_and_hold_no_white_space(reader):
    for base in (BASE, f"{BASE}/", TOKEN_BASE):
        runs = ["".join(registration(reader, base, output="texts")) for _ in range(2)]
        assert runs[0] == runs[1]
        urls = urls_in(runs[0])
        assert not any(re.search(r"\s", url) for url in urls)
        names = [unquote_to_bytes(url[len(base.rstrip("/")) + 1 :]).decode() for url in urls]
        assert names == IMAGES


def test_members_that_are_no_images_or_replaced_are_left_out(tmp_path):
    with blobpack.open(encord_files.blob(tmp_path)) as reader:
        made = registration(reader, BASE)
        assert len(list(made)) == 1
        assert made.left_out == {"not an image": 1}
        assert (made.files, made.items, made.urls) == (1, 7, 7)
    other = tmp_path / "twice.tar"
    other.write_bytes((tmp_path / "images.tar").read_bytes())
    blobpack.append(other, {"top.png": png(9, 9)}, duplicates="last")
    with blobpack.open(other) as reader:
        made = registration(reader, BASE)
        found = [item for item in one(made)["images"] if item["title"] == "top.png"]
        assert [item["imageMetadata"]["width"] for item in found] == [9]
        assert made.left_out["replaced by a later member of this name"] == 1


def test_titles(reader):
    def titles(title, **options):
        members = ["dogs/0001.png", "top.png"]
        found = one(registration(reader, BASE, members=members, title=title, **options))["images"]
        return [each.get("title") for each in found]

    assert titles("name") == ["dogs/0001.png", "top.png"]
    assert titles("basename") == ["0001.png", "top.png"]
    assert titles("url") == [None, None]
    assert titles(lambda member: None if member.size == 0 else f"{member.width}") == ["5", "2"]
    with pytest.raises(FormatError, match="a title has 301 characters"):
        titles(lambda member: "x" * 301)
    with pytest.raises(TypeError, match=r"title must return a str or None, not 5"):
        titles(lambda member: 5)


def test_names_that_are_not_utf8(tmp_path):
    blobpack.pack({"a\udcff.png": png(2, 2)}, tmp_path / "a.tar")
    with blobpack.open(tmp_path / "a.tar") as reader:
        text = one(registration(reader, BASE, output="texts"))
    (item,) = json.loads(text)["images"]
    assert (item["objectUrl"], item["title"]) == (f"{BASE}/a%FF.png", "a\ufffd.png")


def test_groups_are_folders_and_frames_are_in_natural_order(tmp_path):
    shuffled = {f"s/{n}.png": png(2, 2) for n in (10, 9, 1, 2)}
    # sorted by name, this folder lies amid the one around it
    names = {"s/1/x.png": png(3, 3), **shuffled, "y.png": png(2, 2)}
    blobpack.pack(names, tmp_path / "a.tar")
    with blobpack.open(tmp_path / "a.tar") as reader:
        found = one(registration(reader, f"{BASE}.tar", "image_groups"))["image_groups"]
    frames = {
        each["title"]: [v for k, v in each.items() if k.startswith("objectUrl")] for each in found
    }
    assert {title: [url.rpartition("/")[2] for url in urls] for title, urls in frames.items()} == {
        "s/1": ["x.png"],
        "s": ["1.png", "2.png", "9.png", "10.png"],
        # images in no folder form the group of the blob
        "images.tar": ["y.png"],
    }
    assert [each["createVideo"] for each in found] == [False] * 3


def test_own_groups(reader):
    def group(member):
        return None if member.name == "top.png" else member.name[0]

    made = registration(reader, BASE, "image_groups", group=group)
    assert [each["title"] for each in one(made)["image_groups"]] == ["c", "d"]
    assert made.left_out == {"not an image": 1, "in no group": 1}


def test_more_groups_than_a_block(tmp_path):
    names = [f"{n // 3:04}/{n % 3}.png" for n in range(6000)]
    blobpack.pack(((name, png(1, 1)) for name in names), tmp_path / "a.tar")
    with blobpack.open(tmp_path / "a.tar") as reader:
        groups = one(registration(reader, BASE, "image_groups"))["image_groups"]
    found = [url for group in groups for key, url in group.items() if key.startswith("objectUrl_")]
    assert [url.removeprefix(f"{BASE}/") for url in found] == names
    assert [group["title"] for group in groups] == [f"{n:04}" for n in range(2000)]


def test_images_of_a_sequence_have_one_size(reader):
    with pytest.raises(FormatError, match=r"sequence cats .*8 x 6 .*4 x 4"):
        list(registration(reader, BASE, "image_sequences"))
    made = registration(reader, BASE, "image_sequences", members=reader.index.select("dogs/*"))
    assert one(made)["image_groups"][0]["createVideo"] is True


@pytest.mark.parametrize("text", ["", "a10", "10a", "1a02", "a1b", "01", "1", "\u0663"])
def test_natural_keys_can_be_compared(text):
    for other in ("a9", "9", "", "a", "1b"):
        assert natural(text) < natural(other) or natural(text) >= natural(other)


def test_several_types_in_one_file(reader):
    kind = {
        "image_sequences": reader.index.select("dogs/*"),
        "images": ["top.png"],
        "image_groups": reader.index.select("cats/*"),
    }
    text = one(registration(reader, BASE, kind, objects=OBJECTS, output="texts"))
    document = json.loads(text)
    assert [key for key, value in document.items() if isinstance(value, list)] == [
        *("images", "image_groups", "videos", "dicom_series", "audio", "text", "pdf", "nifti")
    ]
    # each key once, or the later one would hide the earlier
    assert text.count('"image_groups":') == text.count('"images":') == 1
    assert [each["title"] for each in document["images"]] == ["top.png", "whole"]
    assert [each["createVideo"] for each in document["image_groups"]] == [False, False, True]


def test_the_csv(reader):
    kind = {
        "images": ["top.png", "cats/0000.png"],
        "image_sequences": reader.index.select("dogs/*"),
    }
    text = one(
        registration(
            reader,
            BASE,
            kind,
            objects=[
                CloudObject("videos", "https://h/v.mp4", "a, b"),
                CloudObject("dicom_series", ["https://h/1.dcm", "https://h/2.dcm"], "s"),
            ],
            form="csv",
            output="texts",
        )
    )
    assert list(csv.reader(io.StringIO(text))) == [
        ["ObjectURL", "Image title"],
        # in the order in which they are named
        [f"{BASE}/top.png", "top.png"],
        [f"{BASE}/cats/0000.png", "cats/0000.png"],
        ["ObjectURL", "Image group title", "Create video"],
        *([f"{BASE}/dogs/{n}.png", "dogs", "true"] for n in ("0001", "0002", "0010")),
        ["ObjectURL", "Video title"],
        ["https://h/v.mp4", "a, b"],
        ["ObjectURL", "Dicom title"],
        *([f"https://h/{n}.dcm", "s"] for n in (1, 2)),
    ]
    assert check_registration(text) == []


def test_a_csv_of_images_never_has_a_single_column(reader):
    """A single column of URLs means videos to Encord."""
    for title in ("name", "url"):
        text = one(registration(reader, BASE, form="csv", output="texts", title=title))
        assert {len(row) for row in csv.reader(io.StringIO(text))} == {2}
        assert check_registration(text) == []
    (problem,) = check_registration(f"ObjectUrl\n{BASE}/top.png\n")
    assert "means videos to Encord; for images, add the column 'Image title'" in str(problem)


def test_chunks(reader):
    made = registration(reader, BASE, chunk=3)
    assert [len(each["images"]) for each in made] == [3, 3, 1]
    assert (made.files, made.items) == (3, 7)


@pytest.mark.parametrize(
    ("items_max", "urls_max", "sizes"),
    [(2, 99, [2, 1]), (9, 3, [2, 1]), (9, 5, [2, 1]), (9, 6, [3])],
)
def test_files_are_split_at_encords_limits(reader, monkeypatch, items_max, urls_max, sizes):
    """The limits are made small: cats has 2 images, cats/small 1, dogs 3, and top.png lies alone."""
    monkeypatch.setattr("blobpack.integrations.encord.files.ITEMS_MAX", items_max)
    monkeypatch.setattr("blobpack.integrations.encord.files.URLS_MAX", urls_max)
    members = reader.index.select("dogs/*", "cats/*")
    made = registration(reader, BASE, "image_groups", members=members)
    found = [len(each["image_groups"]) for each in made]
    assert found == sizes
    monkeypatch.setattr("blobpack.integrations.encord.files.URLS_MAX", 2)
    with pytest.raises(FormatError, match=r"dogs has 3 images, and Encord accepts 2 URLs"):
        list(registration(reader, BASE, "image_groups", members=members))


def test_the_limits_are_encords():
    assert (kinds.URLS_MAX, kinds.ITEMS_MAX) == (1_000_000, 500_000)
    assert kinds.URL_BYTES_MAX <= 16 * 1024


def test_a_url_that_is_too_long(tmp_path):
    blobpack.pack({"d/" * 6000 + "é" * 1000 + ".png": png(1, 1)}, tmp_path / "a.tar")
    with blobpack.open(tmp_path / "a.tar") as reader, pytest.raises(FormatError, match="16 KB"):
        list(registration(reader, BASE, title="basename"))


def test_image_metadata_needs_facts(tmp_path):
    blobpack.pack({"a.png": png(2, 2)}, tmp_path / "a.tar", facts=False)
    with blobpack.open(tmp_path / "a.tar") as reader:
        (item,) = one(registration(reader, BASE))["images"]
        assert "imageMetadata" not in item
        with pytest.raises(FactsMissingError, match=r"a\.png has no known media type"):
            list(registration(reader, BASE, image_metadata="require"))


def test_keys_of_image_metadata_can_be_snake_case(reader):
    given = {"members": ["top.png"], "key_style": "snake"}
    (item,) = one(registration(reader, BASE, **given))["images"]
    assert set(item["imageMetadata"]) == {"mime_type", "file_size", "width", "height"}
    # the SDK's own form knows one spelling
    (item,) = one(registration(reader, BASE, form="items", **given))["images"]
    assert "fileSize" in item["imageMetadata"]


ROWS = [
    {key: value for key, value in row.items() if key != "seen"} for row in encord_files.ROWS[:2]
]


def table_of(rows):
    """A table with all columns of all rows."""
    names = {name: None for row in rows for name in row}
    return pa.Table.from_pylist([names | row for row in rows])


def write(rows, path):
    if path.suffix == ".csv":
        cells = ["name,camera,embedding,keyframe\n"]
        cells += [
            f'{row["name"]},{row.get("camera", "")},"{row.get("embedding", "")}",'
            f"{json.dumps(row['keyframe']) if 'keyframe' in row else ''}\n"
            for row in rows
        ]
        path.write_text("".join(cells))
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(table_of(rows), path)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n\n" for row in rows))
    return path


@pytest.mark.parametrize("source", [".jsonl", ".csv", ".parquet", "dict", "table", "frame", "call"])
def test_client_metadata_from_rows_and_columns(reader, tmp_path, source):
    by_name = {row["name"]: {k: v for k, v in row.items() if k != "name"} for row in ROWS}
    metadata = {
        "dict": by_name,
        "table": table_of(ROWS),
        "frame": pd.DataFrame([ROWS[0]]),
        "call": lambda member: by_name.get(member.name),
    }.get(source)
    if metadata is None:
        metadata = write(ROWS, tmp_path / f"rows{source}")
    found = one(registration(reader, BASE, metadata=metadata))["images"]
    given = {item["title"]: item["clientMetadata"] for item in found if "clientMetadata" in item}
    if source == "frame":
        by_name.pop("dogs/0002.png")
    assert given == by_name


def test_metadata_may_come_in_any_order_and_for_others(reader, tmp_path):
    rows = [{"name": name, "n": n} for n, name in enumerate([*reversed(IMAGES), "nobody"])]
    made = registration(reader, BASE, metadata=write(rows, tmp_path / "rows.jsonl"))
    found = {item["title"]: item["clientMetadata"]["n"] for item in one(made)["images"]}
    assert found == {name: n for n, name in enumerate(reversed(IMAGES))}
    assert made.unused == 1


def test_dates_of_tables_are_iso_8601(reader):
    frame = pd.DataFrame({"name": ["top.png"], "at": [pd.Timestamp("2026-01-02T03:04:05")]})
    (item,) = one(registration(reader, BASE, members=["top.png"], metadata=frame))["images"]
    assert item["clientMetadata"] == {"at": "2026-01-02T03:04:05"}


def test_metadata_of_groups_and_of_their_frames(reader, tmp_path):
    rows = [
        {
            "name": "dogs",
            "site": "kennel",
            "keyframes": [0],
            "$encord": {"config": {"sampling_rate": 0}},
        },
        {"name": "dogs/0010.png", "keyframe": True, "embedding": [0.5, 1]},
        {"name": "dogs/0002.png", "keyframe": False, "seen": 1},
    ]
    made = registration(
        reader,
        BASE,
        "image_sequences",
        members=reader.index.select("dogs/*"),
        metadata=write(rows, tmp_path / "rows.jsonl"),
    )
    (item,) = one(made)["image_groups"]
    assert item["clientMetadata"] == {
        "site": "kennel",
        "keyframes": [0, 2],
        "$encord": {
            "config": {"sampling_rate": 0},
            "frames": {"1": {"seen": 1}, "2": {"embedding": [0.5, 1]}},
        },
    }
    assert made.unused == 0
    rows[0]["keyframes"] = [3]
    with pytest.raises(FormatError, match="dogs has 3 images, and no key frame 3"):
        list(
            registration(
                reader,
                BASE,
                "image_groups",
                members=reader.index.select("dogs/*"),
                metadata={"dogs": rows[0]},
            )
        )


@pytest.mark.parametrize(
    ("lines", "error", "says"),
    [
        ('{"name": "top.png", "n": NaN}', FormatError, "Out of range float"),
        ('{"name": "top.png", "keyframes": [-1]}', FormatError, "'keyframes' must be a list"),
        ('{"name": "top.png", "$encord": []}', FormatError, "'\\$encord' must be an object"),
        (json.dumps({"name": "top.png", "e": [0.5] * 4097}), FormatError, "4,097 numbers"),
        ('{"n": 1}', FormatError, "line 1: it has no name"),
        ('{"name": "x"}\n[]', FormatError, "line 2: expected a JSON object"),
        ("{", FormatError, "line 1"),
        ("[" * 100_000, FormatError, "line 1"),
        ('{"name": "top.png"}\n{"name": "top.png"}', DuplicateNameError, "line 2.*top.png"),
        ('{"name": "x"}\n{"name": "x"}', DuplicateNameError, "line 2"),
    ],
)
def test_bad_metadata(reader, tmp_path, lines, error, says):
    path = tmp_path / "rows.jsonl"
    path.write_text(lines)
    with pytest.raises(error, match=says):
        list(registration(reader, BASE, metadata=path))


def test_bad_tables_of_metadata(reader, tmp_path):
    for name, text, says in (
        ("a.csv", 'name,n\n"x,1\n', "a.csv, line"),
        ("b.csv", "name,n\nx,1,2\n", "line 2: more cells than columns"),
        ("c.csv", "n\n1\n", "line 2: it has no name"),
        ("d.parquet", "x", "d.parquet"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(FormatError, match=says):
            registration(reader, BASE, metadata=tmp_path / name)
    with pytest.raises(SourceError, match="nowhere"):
        registration(reader, BASE, metadata=tmp_path / "nowhere.csv")
    with pytest.raises(ValueError, match=r"must be \.jsonl"):
        registration(reader, BASE, metadata=tmp_path / "rows.xml")
    with pytest.raises(FormatError, match=r"metadata of 'cats/0000\.png'"):
        list(registration(reader, BASE, metadata=lambda member: [1]))


def test_whole_objects_by_url_and_by_access_point(s3_env, bucket, tmp_path):
    objects = [
        CloudObject("images", f"s3://{bucket}/a b/ü.png"),
        CloudObject("videos", f"{ACCESS_POINT}/v.mp4", "v"),
        CloudObject("dicom_series", [f"s3://{bucket}/1.dcm", f"s3://{bucket}/2.dcm"], "s"),
    ]
    found = one(object_registration(objects))
    assert found["images"] == [{"objectUrl": f"{s3_env.endpoint}/{bucket}/a%20b/%C3%BC.png"}]
    assert found["videos"] == [{"objectUrl": f"{ACCESS_POINT}/v.mp4", "title": "v"}]
    assert found["dicom_series"] == [
        {
            "title": "s",
            "objectUrl_0": f"{s3_env.endpoint}/{bucket}/1.dcm",
            "objectUrl_1": f"{s3_env.endpoint}/{bucket}/2.dcm",
        }
    ]
    assert check_registration(found) == []
    found = one(object_registration(objects[2:], access_point=ACCESS_POINT))
    assert found["dicom_series"][0]["objectUrl_1"] == f"{ACCESS_POINT}/2.dcm"
    with pytest.raises(ValueError, match="white space"):
        object_registration(objects, access_point=ACCESS_POINT)


def test_blobs_themselves(s3_env, bucket, tmp_path):
    data = encord_files.blob(tmp_path).read_bytes()
    url = s3_env.put(bucket, "out.tar", data)
    with blobpack.open(url) as reader:
        (document,) = object_registration(blob_objects(reader), access_point=ACCESS_POINT)
    assert document["text"] == [
        {
            "objectUrl": f"{ACCESS_POINT}/out.tar",
            "title": "out.tar",
            "textMetadata": {"fileSize": len(data), "mimeType": "application/x-tar"},
            "clientMetadata": {"members": 8},
        }
    ]
    with blobpack.open(tmp_path / "images.tar") as reader, pytest.raises(ValueError, match="local"):
        blob_objects(reader)


def test_objects_in_a_file(tmp_path):
    path = tmp_path / "objects.jsonl"
    path.write_text(
        '{"kind": "videos", "url": "https://h/v.mp4", "title": "v", "metadata": {"a": 1}}\n\n'
        '{"kind": "dicom_series", "urls": ["https://h/1"], "title": "s"}\n'
    )
    assert list(read_objects(path)) == [
        CloudObject("videos", "https://h/v.mp4", "v", {"a": 1}),
        CloudObject("dicom_series", ["https://h/1"], "s"),
    ]
    for line, says in (
        ("[]", "expected a JSON object"),
        ('{"kind": "x", "url": "https://h/v"}', "kind must be one of"),
        ('{"kind": "videos"}', "url must be"),
        ('{"kind": "videos", "url": "https://h/v", "colour": 1}', "unknown key 'colour'"),
    ):
        path.write_text(f"\n{line}")
        with pytest.raises(FormatError, match=f"line 2: .*{says}"):
            list(read_objects(path))
    with pytest.raises(SourceError):
        list(read_objects(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "images", "url": "https://h/a b"}, "white space"),
        ({"kind": "images", "url": "ftp://h/a"}, "is neither"),
        ({"kind": "images", "url": "s3://bucket"}, "names no object"),
        ({"kind": "images", "url": f"{ACCESS_POINT}"}, "names no object"),
        ({"kind": "images", "url": "arn:aws:s3:eu-west-1:1:accesspoint/x/k"}, "is not the ARN"),
        ({"kind": "images", "url": f"https://h/{'x' * 16_000}"}, "16 KB"),
        ({"kind": "images", "url": ["https://h/a", "https://h/b"]}, "one URL"),
        ({"kind": "dicom_series", "url": []}, "one URL"),
        ({"kind": "dicom_series", "url": ["https://h/a"]}, "title must be"),
        ({"kind": "images", "url": "https://h/a", "title": "x" * 301}, "300 characters"),
        ({"kind": "nifti", "url": "https://h/a", "media": {"a": 1}}, "media must be None"),
        ({"kind": "images", "url": "https://h/a", "media": {"width": 1}}, "needs mimeType"),
        ({"kind": "dicom_series", "url": ["https://h/a"], "title": "s", "media": []}, ""),
    ],
)
def test_wrong_objects(given, says):
    if not says:
        CloudObject(**given)
        return
    with pytest.raises(ValueError, match=says):
        CloudObject(**given)


def test_a_signed_url_can_not_be_compared():
    signed = CloudObject("images", "https://h/a.png?X-Amz-Signature=5ec2e7&X-Amz-Date=1")
    assert list(object_registration([signed]))
    with pytest.raises(ValueError, match="signed URL") as caught:
        object_registration([signed], skip_duplicate_urls=True)
    assert "5ec2e7" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"base_url": 5}, TypeError, "base_url"),
        ({"base_url": "host/b/out"}, ValueError, "base_url"),
        ({"base_url": "https://h/b/a b"}, ValueError, "white space"),
        ({"base_url": "https://h/b/ü"}, ValueError, "percent-encoded"),
        ({"base_url": "https://h/b?token=x"}, ValueError, "no query"),
        ({"base_url": "https://h/b#x"}, ValueError, "no query"),
        ({"kind": "videos"}, ValueError, "kind must be one of"),
        ({"kind": {"videos": []}}, ValueError, "kind must be one of"),
        ({"kind": {"images": []}, "members": []}, ValueError, "members can't be combined"),
        ({"members": "top.png"}, TypeError, "members"),
        ({"members": ["nobody"]}, MemberNotFoundError, "nobody"),
        ({"group": "folder"}, TypeError, "group"),
        ({"title": "nice"}, ValueError, "title must be one of"),
        ({"metadata": 5}, TypeError, "metadata"),
        ({"image_metadata": "some"}, ValueError, "image_metadata"),
        ({"objects": ["https://h/a"]}, TypeError, "CloudObjects"),
        ({"objects": "https://h/a"}, TypeError, "objects"),
        ({"access_point": "arn:aws:s3:::bucket"}, ValueError, "access_point"),
        ({"form": "xml"}, ValueError, "form must be one of"),
        ({"output": "lines"}, ValueError, "output must be one of"),
        ({"output": "files"}, ValueError, "folder must be"),
        ({"folder": "x"}, ValueError, "folder 'x' needs output='files'"),
        ({"output": "files", "folder": "s3://b/x"}, ValueError, "folder"),
        ({"chunk": 0}, ValueError, "chunk must be from 1 to 500000"),
        ({"chunk": "5"}, TypeError, "chunk"),
        ({"skip_duplicate_urls": "no"}, TypeError, "skip_duplicate_urls"),
        ({"upsert_metadata": True}, ValueError, "no effect without skip_duplicate_urls"),
        ({"key_style": "kebab"}, ValueError, "key_style"),
        ({"form": "csv"}, ValueError, "output must be 'texts' or 'files'"),
        ({"form": "csv", "output": "texts", "metadata": {}}, ValueError, "no client metadata"),
        (
            {"form": "csv", "output": "texts", "skip_duplicate_urls": True},
            ValueError,
            "holds no flags",
        ),
        (
            {"form": "csv", "output": "texts", "image_metadata": "require"},
            ValueError,
            "holds none",
        ),
        ({"form": "csv", "output": "texts", "objects": OBJECTS[5:6]}, ValueError, "pdf items"),
        ({"colour": "red"}, TypeError, "unexpected keyword argument 'colour'"),
    ],
)
def test_wrong_arguments(reader, tmp_path, monkeypatch, options, error, says):
    monkeypatch.chdir(tmp_path)
    before = sorted(Path().iterdir())
    with pytest.raises(error, match=says):
        registration(**{"reader": reader, "base_url": BASE, **options})
    assert sorted(Path().iterdir()) == before
    with pytest.raises(TypeError, match="reader must be an open blob"):
        registration("out.tar", BASE)


def test_memory_does_not_grow_with_the_files(tmp_path, monkeypatch):
    """No more than a part of a file is in memory. Blocks of members are made small, so that the blob can be small, too."""
    monkeypatch.setattr("blobpack.integrations.encord.member_items.NAMES_SEARCHED_AT_ONCE", 64)
    names = [f"{n // 100:03}/{n % 100:02}.png" for n in range(2000)]
    image = png(1, 1)
    blobpack.pack(((name, image) for name in names), tmp_path / "a.tar")
    vector = [n / 64 for n in range(32)]
    with (tmp_path / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps({"name": name, "e": vector}) + "\n" for name in names)
    with blobpack.open(tmp_path / "a.tar") as reader:
        # what grows once, such as caches, is there before
        list(registration(reader, BASE, output="files", folder=tmp_path))
        for options in ({}, {"form": "items"}, {"metadata": tmp_path / "rows.jsonl"}):
            tracemalloc.start()
            (path,) = registration(reader, BASE, output="files", folder=tmp_path, **options)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < path.stat().st_size / 2, options


def test_no_message_holds_the_token_of_a_base_url(reader):
    for base in (f"{TOKEN_BASE}?x", f"{TOKEN_BASE} x"):
        with pytest.raises(ValueError, match="base_url") as caught:
            registration(reader, base)
        assert "c2ln" not in str(caught.value)


def test_an_error_leaves_no_half_of_a_file(reader, tmp_path):
    def title(member):
        if member.name == "top.png":
            raise RuntimeError
        return member.name

    folder = tmp_path / "files"
    folder.mkdir()
    with pytest.raises(RuntimeError):
        list(registration(reader, BASE, title=title, output="files", folder=folder, chunk=4))
    assert [path.name for path in folder.iterdir()] == ["registration-00001.json"]


def test_a_registration_can_be_left_early(reader, tmp_path):
    with registration(reader, BASE, chunk=1, metadata=tmp_path / "metadata.jsonl") as made:
        next(made)
    with pytest.raises(StopIteration):
        next(made)
    assert list(registration(reader, BASE, members=[])) == []


def test_a_collection(tmp_path):
    (tmp_path / "shards").mkdir()
    blobpack.pack({"a.png": png(2, 2)}, tmp_path / "shards" / "1.tar")
    blobpack.pack({"b.png": png(3, 3)}, tmp_path / "shards" / "2.tar")
    with blobpack.open(tmp_path / "shards") as reader:
        found = one(registration(reader, f"{BASE}/shards", metadata={"b.png": {"n": 1}}))["images"]
    assert [item["objectUrl"] for item in found] == [f"{BASE}/shards/{n}.png" for n in "ab"]
    assert found[1]["clientMetadata"] == {"n": 1}
