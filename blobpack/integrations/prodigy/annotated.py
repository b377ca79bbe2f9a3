"""What Prodigy's database holds of images: which ones are annotated, and references in place of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blobpack.integrations.prodigy.references import is_reference
from blobpack.model import check_several, check_texts

if TYPE_CHECKING:
    from collections.abc import Iterable

    # an example of Prodigy: a dict that JSON can hold
    Example = dict[str, Any]

# Prodigy's methods for reading a dataset, the newest first
READ_DATASET = ("iter_dataset_examples", "get_dataset_examples", "get_dataset")
# what an `image` begins with if it is neither a reference nor a key
NO_KEYS = ("data:", "http://", "https://", "//")


def annotated(db: Any, dataset: str | Iterable[str]) -> set[str]:
    """Return the references and keys of the images that are annotated in datasets of Prodigy, to pass on as `skip`.

    An image counts whether it was accepted, rejected or ignored. A row with a reference, `blob://…` or `s3://…`, gives
    that reference. A row with a bare key in `meta.key` or `image`, as other recipes for S3 write it, gives that key: it
    means the image of this name in any blob and bucket.

    Args:
        db: The database, from `prodigy.components.db.connect()`.
        dataset: Name of a dataset, or several names. A dataset that does not exist holds nothing.

    Raises:
        TypeError: the dataset is neither a str nor several of them, or `db` is no database of Prodigy.
    """
    found: set[str] = set()
    for name in check_texts("dataset", dataset):
        for example in _read_dataset(db, name):
            found.update(_identities(example))
    return found


def _read_dataset(db: Any, name: str) -> Iterable[Example]:
    method = next((method for method in READ_DATASET if hasattr(db, method)), None)
    if method is None:
        raise TypeError(f"db must be a database of Prodigy, not {type(db).__name__}")
    if name not in db:
        return ()
    # older versions return None for an empty dataset
    return getattr(db, method)(name) or ()


def _identities(example: Example) -> list[str]:
    """Return the reference of an example; or its keys, if it has none."""
    image = example.get("image")
    for value in (image, example.get("path")):
        if is_reference(value):
            return [str(value)]
    meta = example.get("meta")
    key = meta.get("key") if isinstance(meta, dict) else None
    keys = [value for value in (key, image) if isinstance(value, str)]
    return [value for value in keys if value and not value.startswith(NO_KEYS)]


def key_of(example: Example) -> str | None:
    """Return the reference of an example, or its bare key; None if it has neither."""
    return next(iter(_identities(example)), None)


def store_references(examples: Iterable[Example]) -> list[Example]:
    """Return examples with references in place of pixels or URLs: a `before_db` of Prodigy.

    The reference is in `path`, where tasks have it. Examples without one are returned unchanged, and so are those that
    hold their reference in `image` already.

    Args:
        examples: Answers of Prodigy. They are not changed.

    Raises:
        TypeError: `examples` is one example instead of several.
    """
    check_several("examples", examples, "examples of Prodigy")
    return [
        {**example, "image": example["path"]} if is_reference(example.get("path")) else example
        for example in examples
    ]
