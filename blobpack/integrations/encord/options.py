"""The options of files for Encord, which two functions share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from blobpack.integrations.encord.form.kinds import ITEMS_MAX
from blobpack.model import (
    EncordForm,
    EncordKeyStyle,
    EncordOutput,
    check_choice,
    check_flag,
    check_number,
    shown,
)
from blobpack.stores.arguments import local_path
from blobpack.wording import setting

if TYPE_CHECKING:
    import os


class FileOptions(TypedDict, total=False):
    """Options of the files that registration and object_registration make.

    Attributes:
        form: "json" for the web page, and for the SDK, which sends it as it is; "items" for the SDK's DataUploadItems; "csv"
            for the web page. A CSV holds no client metadata, no imageMetadata and no flags.
        output: "dicts" yields each file as a dict, "texts" as a text, and "files" writes each file and yields its path. Memory
            is bounded only with "files".
        folder: The folder for "files". It must exist. A file of the same name is replaced.
        chunk: Largest number of items in a file. None: Encord's limit, 500,000. Items of smaller files appear in Encord sooner.
        skip_duplicate_urls: Let Encord skip items whose URLs are already in its folder.
        upsert_metadata: Let Encord update the metadata of the items that it skips.
        key_style: Spelling of the keys in imageMetadata and videoMetadata of the form "json": "camel", as in the SDK, or
            "snake".
    """

    form: EncordForm
    output: EncordOutput
    folder: str | os.PathLike[str] | None
    chunk: int | None
    skip_duplicate_urls: bool
    upsert_metadata: bool
    key_style: EncordKeyStyle


DEFAULTS = FileOptions(
    form="json",
    output="dicts",
    folder=None,
    chunk=None,
    skip_duplicate_urls=False,
    upsert_metadata=False,
    key_style="camel",
)


def complete_options(function: str, options: FileOptions) -> FileOptions:
    """Check the options that a caller gave, and return them with the defaults of all others.

    Args:
        function: Name of the public function, for messages.
        options: The options.

    Raises:
        TypeError: an option has another type, or does not exist.
        ValueError: an option is no choice or out of range, or two do not fit together.
    """
    given: dict[str, Any] = dict(options)
    unknown = next((name for name in given if name not in DEFAULTS), None)
    if unknown is not None:
        raise TypeError(f"{function}() got an unexpected keyword argument {unknown!r}")
    complete = FileOptions(**{**DEFAULTS, **options})
    check_choice("form", complete["form"], EncordForm)
    check_choice("output", complete["output"], EncordOutput)
    check_choice("key_style", complete["key_style"], EncordKeyStyle)
    if complete["chunk"] is not None:
        check_number("chunk", complete["chunk"], 1, ITEMS_MAX)
    check_flag("skip_duplicate_urls", complete["skip_duplicate_urls"])
    check_flag("upsert_metadata", complete["upsert_metadata"])
    _check_together(complete)
    return complete


def _check_together(options: FileOptions) -> None:
    if options["output"] == "files":
        if options["folder"] is None:
            raise ValueError("folder must be the folder for the files, not None")
        local_path("folder", options["folder"])
    elif options["folder"] is not None:
        raise ValueError(f"folder {shown(options['folder'])} needs {setting('output', 'files')}")
    if options["upsert_metadata"] and not options["skip_duplicate_urls"]:
        raise ValueError("upsert_metadata has no effect without skip_duplicate_urls")
    if options["form"] == "csv":
        if options["output"] == "dicts":
            raise ValueError("output must be 'texts' or 'files' for a CSV, not 'dicts'")
        if options["skip_duplicate_urls"]:
            raise ValueError(f"skip_duplicate_urls needs {json_forms()}: a CSV holds no flags")


def json_forms() -> str:
    """Return how the reader of a message asks for a form that holds more than URLs."""
    return f"{setting('form', 'json')} or {setting('form', 'items')}"
