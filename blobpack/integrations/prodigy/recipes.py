"""Hand the recipes to Prodigy. Only Prodigy loads this file: by its entry points, or by `prodigy … -F recipes.py`."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from runpy import run_path
from typing import Any

import prodigy

from blobpack.integrations.prodigy import components


def to_texts(text: str) -> list[str]:
    """Return the texts of an option: those between commas, or the lines of a file."""
    path = Path(text)
    if path.suffix == ".txt" and path.is_file():
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    return [part.strip() for part in text.split(",") if part.strip()]


def to_function(text: str) -> Any:
    """Return the function that FILE.py:name or module:name names."""
    file, _, name = text.rpartition(":")
    if not file.endswith(".py"):
        return resolve_name(text)
    found = run_path(file)
    if name not in found:
        raise ValueError(f"where: {file} has no function {name!r}")
    return found[name]


# help, kind, letter and converter of each argument, in the form that all versions of Prodigy accept
DATASET = ("Dataset to save annotations to", "positional", None, str)
SOURCE = ("Path or URL of a blob or collection", "positional", None, str)
LABEL = (
    "Labels, separated by commas, or a .txt file with one on each line",
    "option",
    "l",
    to_texts,
)
EXCLUDE = ("Datasets whose images are not shown, separated by commas", "option", "e", to_texts)
GLOB = (
    "Only images whose names match one of these globs, separated by commas",
    "option",
    "g",
    to_texts,
)
WHERE = (
    "Only images for which a function returns true: FILE.py:name or module:name",
    "option",
    "w",
    to_function,
)
SHUFFLE = ("Random order, by this seed", "option", "s", int)
URL = ("Show URLs below this one, of a gateway, instead of pixels", "option", "u", str)
BLOB_NAME = ("Name of the blob in references, instead of its file name", "option", "n", str)
WIDTH = ("Width of the card, in pixels", "option", "W", int)
DARKEN = ("Darken the image, to make boxes stand out", "flag", "D", bool)

CHOICE = {
    "exclude": EXCLUDE,
    "url": URL,
    "glob": GLOB,
    "where": WHERE,
    "shuffle": SHUFFLE,
}
MEMBERS = {"dataset": DATASET, "source": SOURCE, "label": LABEL, **CHOICE, "blob_name": BLOB_NAME}
MANUAL = {"width": WIDTH, "darken": DARKEN}

blob_image_manual = prodigy.recipe("blob.image.manual", **MEMBERS, **MANUAL)(
    components.blob_image_manual
)
blob_image_classify = prodigy.recipe(
    "blob.image.classify",
    **MEMBERS,
    exclusive=("Only one label for each image", "flag", "E", bool),
)(components.blob_image_classify)
blob_mark = prodigy.recipe(
    "blob.mark",
    **MEMBERS,
    view_id=("Prodigy's interface, such as image or classification", "option", "v", str),
)(components.blob_mark)
s3_image_manual = prodigy.recipe(
    "s3.image.manual",
    dataset=DATASET,
    bucket=("Name of the bucket", "positional", None, str),
    prefix=("How the keys begin", "positional", None, str),
    label=LABEL,
    **CHOICE,
    **MANUAL,
    listing=("File that keeps the listing", "option", "L", str),
    relist=("List from the start, to find new keys among those listed before", "flag", "R", bool),
)(components.s3_image_manual)
