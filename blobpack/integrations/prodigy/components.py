"""The recipes, without Prodigy: functions that return the components that Prodigy's server works with.

Strategy: `recipes.py` hands these functions to Prodigy. They import Prodigy only to open its database. Prodigy may evaluate
the types in their signatures, so those stand in this module at run time, and are as plain as in Prodigy's own recipes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Optional

from blobpack.integrations.prodigy.annotated import annotated, key_of, store_references
from blobpack.integrations.prodigy.member_tasks import MemberTasks, tasks
from blobpack.integrations.prodigy.object_tasks import object_tasks
from blobpack.model import check_texts
from blobpack.opening.open import open as open_source
from blobpack.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blobpack.integrations.prodigy.annotated import Example
    from blobpack.integrations.prodigy.task_stream import TaskStream

Components = dict[str, Any]
# not `str | None`, which is another type at run time than Prodigy's recipes have
Text = Optional[str]  # noqa: UP045
Number = Optional[int]  # noqa: UP045
Texts = Optional[list[str]]  # noqa: UP045
# a function that is called with a Member
Where = Any

# as Prodigy's own image.manual darkens images
DARKENED = 0.3


def blob_image_manual(
    dataset: str,
    source: str,
    label: Texts = None,
    exclude: Texts = None,
    url: Text = None,
    glob: Texts = None,
    where: Where = None,
    shuffle: Number = None,
    blob_name: Text = None,
    width: Number = None,
    darken: bool = False,
) -> Components:
    """Draw boxes and polygons on the images of a blob or collection."""
    config = _manual_config(label, width, darken=darken)
    skip = _annotated_in(dataset, exclude)
    stream = _member_stream(source, skip, glob, where, shuffle, url, blob_name, {})
    return _components(dataset, "image_manual", stream, exclude, config)


def blob_image_classify(
    dataset: str,
    source: str,
    label: Texts = None,
    exclusive: bool = False,
    exclude: Texts = None,
    url: Text = None,
    glob: Texts = None,
    where: Where = None,
    shuffle: Number = None,
    blob_name: Text = None,
) -> Components:
    """Choose labels for the images of a blob or collection; with one label, accept or reject it."""
    labels = _labels(label)
    fields: dict[str, Any] = {"options": [{"id": text, "text": text} for text in labels]}
    view_id = "choice"
    if len(labels) == 1:
        view_id, fields = "classification", {"label": labels[0]}
    config = {
        "labels": labels,
        "choice_style": "single" if exclusive else "multiple",
        "choice_auto_accept": exclusive,
    }
    skip = _annotated_in(dataset, exclude)
    stream = _member_stream(source, skip, glob, where, shuffle, url, blob_name, fields)
    return _components(dataset, view_id, stream, exclude, config)


def blob_mark(
    dataset: str,
    source: str,
    label: Texts = None,
    view_id: Text = None,
    exclude: Texts = None,
    url: Text = None,
    glob: Texts = None,
    where: Where = None,
    shuffle: Number = None,
    blob_name: Text = None,
) -> Components:
    """Accept or reject the images of a blob or collection, as they are."""
    labels = _labels(label) if label else []
    fields = {"label": labels[0]} if len(labels) == 1 else {}
    skip = _annotated_in(dataset, exclude)
    stream = _member_stream(source, skip, glob, where, shuffle, url, blob_name, fields)
    view = view_id or ("classification" if fields else "image")
    return _components(dataset, view, stream, exclude, {"labels": labels})


def s3_image_manual(
    dataset: str,
    bucket: str,
    prefix: Text = "",
    label: Texts = None,
    exclude: Texts = None,
    url: Text = None,
    glob: Texts = None,
    where: Where = None,
    shuffle: Number = None,
    listing: Text = None,
    relist: bool = False,
    width: Number = None,
    darken: bool = False,
) -> Components:
    """Draw boxes and polygons on the images below a prefix in S3."""
    config = _manual_config(label, width, darken=darken)
    stream = object_tasks(
        bucket,
        prefix or "",
        skip=_annotated_in(dataset, exclude),
        globs=_texts("glob", glob),
        where=where,
        shuffle=shuffle,
        url=url,
        listing=listing,
        relist=relist,
    )
    if stream.listing.kept:
        print(
            f"blobpack: {counted(stream.listing.kept, 'key')} of {stream.listing.url} were listed before; "
            f"the option `relist` also finds new keys among them ({stream.listing.path})",
            file=sys.stderr,
        )
    return _components(dataset, "image_manual", stream, exclude, config)


def _texts(name: str, value: Texts) -> list[str]:
    """Return a list of what the command line, or a caller of Python, gives: nothing, a,b or several."""
    if value is None:
        return []
    # a caller of Python may give them as on the command line
    if isinstance(value, str):
        return [text.strip() for text in value.split(",") if text.strip()]
    return check_texts(name, value)


def _labels(label: Texts) -> list[str]:
    labels = _texts("label", label)
    if not labels:
        raise ValueError("label must be one or several labels, such as CAT,DOG")
    return labels


def _manual_config(label: Texts, width: int | None, *, darken: bool) -> dict[str, Any]:
    config: dict[str, Any] = {"labels": _labels(label), "darken_image": DARKENED if darken else 0}
    if width is not None:
        config["custom_theme"] = {"cardMaxWidth": width}
    return config


def _annotated_in(dataset: str, exclude: Texts) -> set[str]:
    from prodigy.components.db import connect

    return annotated(connect(), [dataset, *_texts("exclude", exclude)])


def _member_stream(
    source: str,
    skip: set[str],
    glob: Texts,
    where: Where,
    shuffle: int | None,
    url: str | None,
    blob_name: str | None,
    fields: Mapping[str, Any],
) -> TaskStream:
    reader = open_source(source)
    try:
        globs = _texts("glob", glob)
        members = reader.index.select(*globs, where=where) if globs or where else None
        stream = tasks(
            reader,
            skip=skip,
            members=members,
            shuffle=shuffle,
            url=url,
            blob_name=blob_name,
            fields=fields,
        )
    except BaseException:
        reader.close()
        raise
    # Prodigy's page says only that there are no tasks, whether none is chosen or all are annotated
    print(
        f"blobpack: {counted(stream.total, 'image')} chosen, {stream.annotated:,} annotated before",
        file=sys.stderr,
    )
    return stream


class _Answers:
    """Counts the images that are answered in this session."""

    def __init__(self, stream: TaskStream) -> None:
        self._stream = stream
        self._keys: set[str] = set()

    def before_db(self, examples: list[Example]) -> list[Example]:
        """Put references in place of pixels, and count the images."""
        self._keys.update(key for key in map(key_of, examples) if key)
        return store_references(examples)

    def progress(self, ctrl: Any, update_return_value: Any) -> float | None:
        """Return the share of the chosen images that is annotated; None while their number is not known."""
        total = self._stream.total
        if total is None:
            return None
        return min(1.0, (self._stream.annotated + len(self._keys)) / total) if total else 1.0


def _components(
    dataset: str, view_id: str, stream: TaskStream, exclude: Texts, config: dict[str, Any]
) -> Components:
    """Return the components of a recipe."""
    answers = _Answers(stream)
    return {
        "dataset": dataset,
        "view_id": view_id,
        "stream": stream,
        "before_db": answers.before_db,
        "progress": answers.progress,
        "on_exit": lambda ctrl: _close(stream),
        "exclude": _texts("exclude", exclude) or None,
        "config": {
            **config,
            # the hash of the image, which is made of its reference
            "exclude_by": "input",
            # counting the stream would read all images
            "auto_count_stream": False,
            **({"total_examples_target": stream.total} if stream.total else {}),
        },
    }


def _close(stream: TaskStream) -> None:
    """Stop reading ahead, and close the blob that the recipe has opened."""
    stream.close()
    if isinstance(stream, MemberTasks):
        stream.reader.close()
