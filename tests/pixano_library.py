"""A stand-in for the health library of Pixano's tutorial: ten images of parts of the human body, in one split.

The tutorial's own images are not distributed with Pixano. These are drawn: each object of the metadata is a bright oval
with four marks, at its key points. The metadata has the form of Pixano 0.6, with bounding boxes and key points, as the
tutorial's.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from pathlib import Path

NAMES = (
    *("mri-brain.png", "mri-knee.png", "mri-spine.png"),
    *("microscope-blood.jpg", "microscope-skin.jpg", "microscope-nerve.jpg", "microscope-bone.jpg"),
    *("photo-hand.jpg", "photo-eye.jpg", "photo-foot.jpg"),
)
# two images have no object, and one has two
OBJECTS = {name: 2 if at == 0 else 0 if at in (3, 7) else 1 for at, name in enumerate(NAMES)}
COUNTS = {"images": 10, "objects": sum(OBJECTS.values())}
# one of the templates that Pixano's pages know: two eyes, a nose and a mouth
TEMPLATE = "face"
MARKS = ((0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.5, 0.8))
OBJECT_COLOUR = (214, 200, 176)
STATES = ["visible", "visible", "visible", "hidden"]


def size_of(at: int) -> tuple[int, int]:
    return 160 + 16 * at, 120 + 8 * (at % 3)


def box_of(at: int, number: int) -> list[float]:
    """A box, as normalised x, y, width and height."""
    return [0.125 + 0.375 * number, 0.25, 0.25, 0.375 + 0.0625 * (at % 4)]


def keypoints_of(at: int, number: int) -> dict[str, Any]:
    x, y, width, height = box_of(at, number)
    coords = [part for dx, dy in MARKS for part in (x + dx * width, y + dy * height)]
    return {"template_id": TEMPLATE, "coords": coords, "states": STATES}


def image_of(at: int) -> bytes:
    width, height = size_of(at)
    shade = Image.linear_gradient("L").resize((width, height)).point(lambda value: value // 4)
    image = Image.merge("RGB", (shade, shade, shade.point(lambda value: value + 8 * at)))
    draw = ImageDraw.Draw(image)
    for number in range(OBJECTS[NAMES[at]]):
        x, y, w, h = box_of(at, number)
        box = (x * width, y * height, (x + w) * width, (y + h) * height)
        draw.ellipse(box, fill=OBJECT_COLOUR)
        points = keypoints_of(at, number)["coords"]
        for px, py in zip(points[::2], points[1::2], strict=True):
            centre = (px * width, py * height)
            draw.ellipse(
                (centre[0] - 2, centre[1] - 2, centre[0] + 2, centre[1] + 2), fill=(60, 40, 40)
            )
    file = io.BytesIO()
    image.save(file, "PNG" if NAMES[at].endswith("png") else "JPEG")
    return file.getvalue()


def line_06(at: int) -> dict[str, Any]:
    """A line of the metadata in the form of Pixano 0.6, with one list for each attribute of all objects."""
    name = NAMES[at]
    line: dict[str, Any] = {"image": name, "image_type": name.partition("-")[0]}
    count = range(OBJECTS[name])
    if count:
        line["objects"] = {
            "category": [f"part {number}" for number in count],
            "bbox": [box_of(at, number) for number in count],
            "keypoints": [keypoints_of(at, number) for number in count],
        }
    return line


def line_07(at: int) -> dict[str, Any]:
    """A line in the form of Pixano 0.7, with annotations by view."""
    name = NAMES[at]
    return {
        "image_type": name.partition("-")[0],
        "views": {"image": name},
        "entities": [
            {
                "category": f"part {number}",
                "annotations": {
                    "image": {"bbox": box_of(at, number), "keypoint": keypoints_of(at, number)}
                },
            }
            for number in range(OBJECTS[name])
        ],
    }


def line_08(at: int) -> dict[str, Any]:
    """A line in the form of Pixano 0.8 (JSONL v2), without the defaults of its header."""
    name = NAMES[at]
    return {
        "attrs": {"image_type": name.partition("-")[0]},
        "views": {"image": name},
        "entities": [
            {
                "attrs": {"category": f"part {number}"},
                "annotations": [
                    {"kind": "bbox", "coords": box_of(at, number)},
                    {"kind": "keypoints", **keypoints_of(at, number)},
                ],
            }
            for number in range(OBJECTS[name])
        ],
    }


HEADER_08 = {
    "$pixano": "jsonl/2",
    "defaults": {
        "bbox": {"format": "xywh", "is_normalized": True},
        "source": {"type": "other", "name": "Builder"},
    },
}
FORMS = {"0.6": line_06, "0.7": line_07, "0.8": line_08}


def metadata(form: str = "0.6") -> bytes:
    lines = [FORMS[form](at) for at in range(len(NAMES))]
    if form == "0.8":
        lines.insert(0, HEADER_08)
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def members(form: str | None = "0.6") -> dict[str, bytes]:
    """The members of the blob: the images, and the metadata unless it is given beside."""
    found = {f"all/{name}": image_of(at) for at, name in enumerate(NAMES)}
    if form is not None:
        found["all/metadata.jsonl"] = metadata(form)
    return found


def write_folder(folder: Path, form: str = "0.6") -> None:
    """Write the library as files, for Pixano's own builders and importers."""
    for name, payload in members(form).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
