"""The layout of a project's folder, and which names the SDK can't read there.

project/
    meta.json                      classes and tags
    blob/images.tar                the images
    train/images_offsets.pkl       the images of the dataset `train`, by their places in images.tar
    train/ann/0001.jpg.json        one annotation for each image
    train/meta/0001.jpg.json       metadata of an image, if it has any
    train/img/0002.jpg             images that are files of their own, if there are any
    train/datasets/night/          the dataset `train/night`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.errors import UnsafeNameError
from blobpack.model import check_text

if TYPE_CHECKING:
    from pathlib import Path

META_FILE = "meta.json"
README_FILE = "README.md"
BLOBS = "blob"
NESTED = "datasets"
ANNOTATIONS = "ann"
IMAGES = "img"
IMAGE_META = "meta"
OFFSETS_SUFFIX = "_offsets.pkl"
BLOB_SUFFIX = ".tar"
JSON_SUFFIX = ".json"

# The SDK takes no folder for a dataset whose path ends with one of these, also if its name is `small_img`: it compares by
# str.endswith (io/fs.py, subdirs_tree).
NOT_DATASETS = (BLOBS, IMAGES, ANNOTATIONS, IMAGE_META, "seg", "img_info", NESTED)
# file systems allow names of 255 bytes, and the name of an annotation is longer than that of its image
NAME_BYTES_MAX = 255 - len(JSON_SUFFIX)


def dataset_folder(project: Path, name: str) -> Path:
    """Return the folder of a dataset; `a/b` is nested in `a`."""
    first, *nested = name.split("/")
    return project.joinpath(first, *(part for each in nested for part in (NESTED, each)))


def check_dataset_name(name: object) -> None:
    """Check that a dataset of this name can be read by the SDK.

    Raises:
        TypeError: the name is no str.
        ValueError: the SDK would skip the dataset without a word, or the name can't be that of a folder.
    """
    check_text("the name of a dataset", name)
    for part in str(name).split("/"):
        if not is_plain(part):
            raise ValueError(
                f"a dataset can't be named {name!r}: {part!r} can't be a folder's name"
            )
        if (ending := ignored_ending(part)) is not None:
            raise ValueError(
                f"a dataset can't be named {name!r}: Supervisely's SDK skips folders whose names end with {ending!r}"
            )


def ignored_ending(name: str) -> str | None:
    """Return the ending that makes the SDK skip a dataset of this name; None if there is none."""
    return next((ending for ending in NOT_DATASETS if name.endswith(ending)), None)


def is_plain(name: str) -> bool:
    """Return whether a name can be that of a file in a folder, and of nothing outside of it."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def check_image_name(name: str, where: object) -> None:
    """Check that an image can have an annotation of its name.

    Args:
        name: The name, without folders.
        where: What holds the image, for messages.

    Raises:
        UnsafeNameError: the file of the annotation could not have its name.
    """
    if not is_plain(name) or len(name.encode("utf-8", "surrogatepass")) > NAME_BYTES_MAX:
        raise UnsafeNameError(
            f"{where}: an image can't be named {name!r}: no file of an annotation can"
        )


def blob_stem(name: str) -> str:
    """Return the stem that a blob and its offsets files share: the name of the blob's file without its suffixes."""
    for suffix in (".tar.zst", ".tzst", BLOB_SUFFIX):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name
