"""What the SDK and blobpack's client are both asked to do, and what of their requests must be equal.

tests/tools/supervisely/ runs the SDK, and keeps its requests in tests/data/supervisely/requests.json beside those of the
client. tests/test_supervisely_server.py runs the client again, without the SDK, and compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import blobpack
from blobpack.integrations.supervisely import build_project
from blobpack.integrations.supervisely.server.coordinates import to_server

DATA = Path(__file__).parent / "data" / "supervisely"
TAR = DATA / "small_images.tar"
RECORDED = DATA / "requests.json"
META = {
    "classes": [
        {
            "title": "car",
            "shape": "rectangle",
            "color": "#FF0000",
            "geometry_config": {},
            "hotkey": "",
        },
        {
            "title": "road",
            "shape": "polygon",
            "color": "#00FF00",
            "geometry_config": {},
            "hotkey": "",
        },
        {
            "title": "wheel",
            "shape": "point",
            "color": "#0000FF",
            "geometry_config": {},
            "hotkey": "",
        },
    ],
    "tags": [
        {
            "name": "wet",
            "value_type": "none",
            "color": "#00FFFF",
            "hotkey": "",
            "applicable_type": "all",
            "classes": [],
        }
    ],
}

Request = dict[str, Any]


def rectangle(*corners: list[int]) -> dict[str, Any]:
    return _object("car", "rectangle", {"exterior": list(corners), "interior": []})


def _object(title: str, kind: str, points: dict[str, Any], *tags: str) -> dict[str, Any]:
    return {
        "classTitle": title,
        "geometryType": kind,
        "points": points,
        "tags": [{"name": tag, "value": None} for tag in tags],
        "description": "",
    }


POLYGON = _object(
    "road",
    "polygon",
    {"exterior": [[0, 0], [9, 0], [9, 9]], "interior": [[[6, 1], [8, 1], [8, 3]]]},
    "wet",
)
POINT = _object("wheel", "point", {"exterior": [[3, 4]], "interior": []})


def make_project(folder: Path) -> Path:
    """Build the project of all scenarios: two datasets on one blob, annotations, and metadata of an image."""
    with blobpack.open_blob(TAR) as blob:
        names = list(blob.index.names)
        train, val = blob.index[:12], blob.index[12:18]
        measured = blobpack.scan(TAR, facts=True)
    annotations = {}
    for row, objects in {0: [rectangle([1, 2], [5, 6])], 3: [POLYGON, POINT], 13: [POINT]}.items():
        size = {"height": measured[row].height, "width": measured[row].width}
        tags = [{"name": "wet", "value": None}] if row == 3 else []
        annotations[names[row]] = {
            "description": "",
            "size": size,
            "tags": tags,
            "objects": objects,
        }
    with blobpack.open_blob(TAR) as blob:
        datasets = {"train": blob.index[:12], "val": blob.index[12:18]}
        build_project(folder, datasets, annotations=annotations, meta=META, link=False)
    (folder / "train" / "meta").mkdir()
    (folder / "train" / "meta" / f"{names[1]}.json").write_text('{"camera": 5}')
    assert len(train) + len(val) == 18
    return folder


def essence(requests: list[Request]) -> dict[str, Any]:
    """Return what requests change on the server, and what they fetch: the SDK may ask more, or in other pieces."""
    found: dict[str, Any] = {
        "files": {},
        "projects": [],
        "classes": [],
        "datasets": [],
        "images": [],
        "objects": [],
        "tags": [],
        "marked": False,
        "blobs": [],
        "annotated": [],
    }
    for each in requests:
        take = _TAKEN.get(each["call"])
        if take:
            take(found, each.get("json") or {}, each)
    found["files"] = dict(sorted(found["files"].items()))
    for key in ("images", "objects", "tags", "blobs", "annotated"):
        found[key] = sorted(map(_text, found[key]))
    return found


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _project(found: dict[str, Any], fields: Any, _: Request) -> None:
    found["projects"].append([fields["name"], fields["workspaceId"], fields["type"]])


def _meta(found: dict[str, Any], fields: Any, _: Request) -> None:
    meta = fields["meta"]
    found["classes"].append(
        [[c["title"], c["shape"]] for c in meta["classes"]] + [t["name"] for t in meta["tags"]]
    )


def _dataset(found: dict[str, Any], fields: Any, _: Request) -> None:
    found["datasets"].append([fields["projectId"], fields["name"], fields["parentId"]])


def _images(found: dict[str, Any], fields: Any, _: Request) -> None:
    assert fields["forceMetadataForLinks"] is True
    assert fields["skipValidation"] is False
    found["images"] += [{"datasetId": fields["datasetId"], **image} for image in fields["images"]]


def _upload(found: dict[str, Any], _: Any, each: Request) -> None:
    found["files"][each["query"]["path"]] = each["bytes"]


def _bulk_upload(found: dict[str, Any], _: Any, each: Request) -> None:
    found["files"] |= {file.pop("path"): file for file in map(dict, each["files"])}


def _annotations(found: dict[str, Any], fields: Any, _: Request) -> None:
    for each in fields["annotations"]:
        annotation = each["annotation"]
        for one in annotation["objects"]:
            tags = sorted(tag["name"] for tag in one["tags"])
            found["objects"].append(
                [each["imageId"], one["classTitle"], one["geometryType"], one["points"], tags]
            )
        found["tags"] += [[each["imageId"], tag["name"]] for tag in annotation["tags"]]


def _figures(found: dict[str, Any], fields: Any, _: Request) -> None:
    for each in fields["figures"]:
        # the fake numbers classes from 1000 on
        title = META["classes"][each["classId"] - 1000]["title"]
        one = {"geometryType": each["geometryType"], **each["geometry"]}
        # By these calls the SDK sends the pixels of files as they are, so that a rectangle comes back a pixel smaller.
        # blobpack converts them, as the SDK's other calls do.
        (sent,) = to_server({"objects": [one]})["objects"]
        found["objects"].append([each["entityId"], title, each["geometryType"], sent["points"], []])


def _edit(found: dict[str, Any], fields: Any, _: Request) -> None:
    found["marked"] |= fields.get("customData", {}).get("is_blob_project") is True


def _blob(found: dict[str, Any], fields: Any, each: Request) -> None:
    # the SDK opens the blob a second time to learn its size, and closes it
    blob = fields or each["query"]
    if blob not in found["blobs"]:
        found["blobs"].append(blob)


def _annotated(found: dict[str, Any], fields: Any, _: Request) -> None:
    found["annotated"] += [[fields["datasetId"], number] for number in fields["imageIds"]]


_TAKEN = {
    "projects.add": _project,
    "projects.meta.update": _meta,
    "projects.editInfo": _edit,
    "datasets.add": _dataset,
    "images.bulk.add": _images,
    "file-storage.upload": _upload,
    "file-storage.bulk.upload": _bulk_upload,
    "annotations.bulk.add": _annotations,
    "annotations.bulk.info": _annotated,
    "figures.bulk.add": _figures,
    "images.data.download": _blob,
}


def compact(requests: list[Request]) -> str:
    """Return requests as JSON, one a line."""
    return (
        "[\n"
        + ",\n".join(json.dumps(each, sort_keys=True, separators=(",", ":")) for each in requests)
        + "\n]"
    )
