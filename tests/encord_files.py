"""A small blob, and files for Encord that are made of it, for the tests of both suites."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from PIL import Image

import blobpack
from blobpack.integrations.encord import (
    CloudObject,
    object_registration,
    registration,
)
from blobpack.integrations.encord.form.kinds import DICOM_TAGS

if TYPE_CHECKING:
    from pathlib import Path

BASE = "https://images.example.org/b/images"
TOKEN_BASE = "https://images.example.org/k/v1.key.Kl8.c2ln/b/images"
ACCESS_POINT = "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap"
ROWS: list[dict[str, Any]] = [
    {"name": "cats/0000.png", "camera": "front", "embedding": [0.25, -1, 3e-5]},
    {"name": "dogs/0002.png", "keyframe": True, "seen": "2026-01-02T03:04:05Z"},
    {"name": "dogs", "site": "kennel", "keyframes": [0]},
]
OBJECTS = [
    CloudObject("images", "https://h/whole.png", "whole", {"a": 1}),
    CloudObject(
        "videos",
        f"{ACCESS_POINT}/v.mp4",
        media={
            "fps": 25,
            "duration": 1.5,
            "width": 4,
            "height": 3,
            "file_size": 9,
            "mime_type": "video/mp4",
        },
    ),
    CloudObject(
        "dicom_series",
        ["https://h/1.dcm", "https://h/2.dcm"],
        "series",
        media=[{"tags": dict.fromkeys(DICOM_TAGS)}] * 2,
    ),
    CloudObject(
        "audio",
        "https://h/a.wav",
        media={
            "duration": 1.5,
            "file_size": 9,
            "mime_type": "audio/wav",
            "sample_rate": 8000,
            "bit_depth": 16,
            "codec": "pcm",
            "num_channels": 1,
        },
    ),
    CloudObject("text", "https://h/t.txt", media={"file_size": 9, "mime_type": "text/plain"}),
    CloudObject("pdf", "https://h/d.pdf", media={"file_size": 9, "num_pages": 2}),
    CloudObject("nifti", "https://h/n.nii"),
    CloudObject("blobs", "https://h/out.tar", "out.tar", {"members": 7}),
]
FILES = ["images", "image groups", "image sequences", "all kinds", "objects", "chunks"]


def png(width: int, height: int, shade: int = 0) -> bytes:
    with io.BytesIO() as file:
        Image.new("L", (width, height), shade).save(file, "PNG")
        return file.getvalue()


def payloads() -> dict[str, bytes]:
    """Images of one size in dogs/, of several sizes in cats/; one lies in no folder, and one file is no image."""
    return {
        "cats/0000.png": png(8, 6),
        "cats/it's 1.png": png(4, 4),
        "cats/small/é.png": png(3, 3),
        "dogs/0001.png": png(5, 5, 1),
        "dogs/0002.png": png(5, 5, 2),
        "dogs/0010.png": png(5, 5, 3),
        "notes.txt": b"no image",
        "top.png": png(2, 2),
    }


def blob(folder: Path) -> Path:
    """Pack the blob, and write its metadata beside it."""
    folder.mkdir(exist_ok=True)
    blobpack.pack(payloads(), folder / "images.tar", all_files=True)
    lines = [json.dumps(row) + "\n" for row in ROWS]
    (folder / "metadata.jsonl").write_text("".join(lines))
    return folder / "images.tar"


def make(name: str, folder: Path, form: str) -> list[dict[str, Any]]:
    """Make the files of a name as dicts."""
    rows = folder / "metadata.jsonl"
    if name == "objects":
        return list(object_registration(OBJECTS, form=form, skip_duplicate_urls=True))
    with blobpack.open(blob(folder)) as reader:
        dogs = reader.index.select("dogs/*")
        options: dict[str, dict[str, Any]] = {
            "images": {"metadata": rows, "skip_duplicate_urls": True, "upsert_metadata": True},
            "image groups": {"kind": "image_groups", "metadata": rows},
            "image sequences": {"kind": "image_sequences", "members": dogs, "metadata": rows},
            "all kinds": {
                "kind": {
                    "image_sequences": dogs,
                    "image_groups": reader.index.select("cats/*"),
                    "images": ["top.png"],
                },
                "objects": OBJECTS,
                "metadata": rows,
            },
            "chunks": {"chunk": 3},
        }
        return list(registration(reader, BASE, form=form, **options[name]))
