"""The options that pack, append and pack_shards share: which files are packed, and how.

Strategy: the options, their types and their descriptions stand once, in a TypedDict. Each of the three functions
takes `**options: Unpack[PackOptions]`, and its signature and help are made from the TypedDict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from blobpack.model import (
    check_callable,
    check_flag,
    check_number,
    check_texts,
    check_threads,
)
from blobpack.packing.names import check_prefix
from blobpack.stores.access.remote import (
    COPY_DEFAULTS,
    Access,
    CopyOptions,
    RemoteOptions,
    accesses_of,
)
from blobpack.stores.access.signature import with_options
from blobpack.stores.arguments import location_of
from blobpack.stores.location import Location

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from blobpack.progress import ProgressCallback

F = TypeVar("F", bound="Callable[..., object]")


class PackOptions(CopyOptions, total=False):
    """Options that pack, append and pack_shards share: which files are packed, and how. They include CopyOptions.

    Attributes:
        globs: Pack only files whose member names match one of these patterns; `*` also matches "/".
        exclude: Do not pack files whose member names match one of these patterns. Patterns see whole names, as they are in
            the blob.
        all_files: Pack every file, not only images. Images are recognised by their first bytes, SVG by its name.
        directory: Relative paths of the source start at this folder, or at this s3:// prefix, and names are relative to it.
            None: they start at the current folder.
        strip: Number of folders that are removed from the front of each name. A name of which nothing is left is an error.
        prefix: What is put in front of each name, after `strip`. For a folder, it ends in "/".
        hidden: Also pack files whose names begin with ".", and files below folders with such names.
        follow_symlinks: Pack the files that symbolic links point to, under the names of the links.
        keep_mtime: Store modification times, in whole seconds. Otherwise they are 0.
        facts: Record facts of each image in the index: media type, width and height as shown, CRC-32C and mtime.
            Pixels are not decoded. If the header of an image is damaged, its width and height are unknown. append
            records facts only if the index of the blob has facts.
        threads: Number of threads that read files, 1 to 64. None: one for each processor, at most 4.
        progress: Called from time to time with the Progress in files, and in bytes of the blob. The total is known for files
            and objects, which are listed first.
        on_skipped: Called as on_skipped(path, reason) for each file that is left out, also in a dry run. The path is a
            URL for an object, and the name for a payload. A hidden folder is one call. The reports count the same files
            in `skipped`.
    """

    globs: Iterable[str]
    exclude: Iterable[str]
    all_files: bool
    directory: str | os.PathLike[str] | None
    strip: int
    prefix: str
    hidden: bool
    follow_symlinks: bool
    keep_mtime: bool
    facts: bool
    threads: int | None
    progress: ProgressCallback | None
    on_skipped: Callable[[str, str], object] | None


DEFAULTS = PackOptions(
    globs=(),
    exclude=(),
    all_files=False,
    directory=None,
    strip=0,
    prefix="",
    hidden=False,
    follow_symlinks=False,
    # a copy of a folder may have other times; without them, the same images give the same blob on any machine
    keep_mtime=False,
    facts=True,
    threads=None,
    progress=None,
    on_skipped=None,
    **COPY_DEFAULTS,
)
# found by their defaults, so that a new flag is checked without a second list
FLAGS = tuple(name for name, default in DEFAULTS.items() if isinstance(default, bool))


def with_pack_options(function: F) -> F:
    """Add the options of PackOptions to the signature and the help of a function that takes them as **options."""
    return with_options(DEFAULTS, PackOptions, CopyOptions, RemoteOptions)(function)


def complete_options(function: str, options: PackOptions) -> PackOptions:
    """Check the options that a caller gave, and return them with the defaults of all others.

    Args:
        function: Name of the public function that was called, for messages.
        options: The options that the caller gave.

    Raises:
        TypeError: an option does not exist, or its value has a wrong type.
        ValueError: a value is out of range.
    """
    # Python itself accepts any keyword for **options, so a misspelt option would be ignored
    unknown = next((name for name in options if name not in DEFAULTS), None)
    if unknown is not None:
        raise TypeError(
            f"{function}() got an unexpected keyword argument {unknown!r}; the options are {', '.join(DEFAULTS)}"
        )
    complete: PackOptions = {**DEFAULTS, **options}
    for name in FLAGS:
        check_flag(name, complete[name])  # type: ignore[literal-required]  # mypy knows no tuple of keys
    source_access = source_access_of(complete)
    check_threads(complete["threads"])
    check_callable("progress", complete["progress"])
    check_callable("on_skipped", complete["on_skipped"])
    check_number("strip", complete["strip"], 0)
    check_prefix(complete["prefix"])
    globs, exclude, directory = complete["globs"], complete["exclude"], complete["directory"]
    # check_texts returns lists: a generator would be empty when the second step reads it
    return {
        **complete,
        "globs": check_texts("globs", globs),
        "exclude": check_texts("exclude", exclude),
        "directory": None if directory is None else _folder_of(directory, source_access),
    }


def source_access_of(options: PackOptions) -> Access:
    """Return how the URLs among the sources are reached.

    Raises:
        TypeError: an option has a wrong type.
    """
    return _accesses_of(options)[0]


def target_access_of(options: PackOptions) -> Access:
    """Return how the target is reached.

    Raises:
        TypeError: an option has a wrong type.
    """
    return _accesses_of(options)[1]


def _accesses_of(options: PackOptions) -> tuple[Access, Access]:
    return accesses_of(
        "pack",
        {
            "s3": options["s3"],
            "headers": options["headers"],
            "bearer_token": options["bearer_token"],
            "source_s3": options["source_s3"],
        },
    )


def directory_of(options: PackOptions) -> Location | None:
    """Return the directory of complete options."""
    directory = options["directory"]
    return None if directory is None else Location.parse(directory, prefix=True)


def _folder_of(directory: object, access: Access) -> Location:
    location = location_of("directory", directory, prefix=True, access=access)
    if location.kind == "http":
        raise ValueError(f"directory must be a folder or s3://bucket/prefix, not {location.text!r}")
    return location


def globs_of(options: PackOptions) -> tuple[list[str], list[str]]:
    """Return the globs and the exclusions of complete options."""
    return list(options["globs"]), list(options["exclude"])
