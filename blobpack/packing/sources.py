"""The source given to pack → files, objects in S3 or payloads; and the options that say which of them, and how."""

from __future__ import annotations

import inspect
import os
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from blobpack.model import (
    check_callable,
    check_flag,
    check_path,
    check_several,
    check_texts,
    check_threads,
)
from blobpack.packing.files import FileList, Skipped, filter_files, list_files, list_folder
from blobpack.packing.objects import Objects, list_prefix
from blobpack.packing.stream import total_bytes
from blobpack.stores.location import Location, location_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobpack.model import Packable, Payload, Progress

    ResolvedSource = FileList | Objects | Iterator[Payload]


F = TypeVar("F", bound="Callable[..., object]")


class PackOptions(TypedDict, total=False):
    """Options that pack, append and pack_shards share: which files are packed, and how.

    Attributes:
        globs: Only files whose member names match one of these; `*` crosses "/".
        exclude: And none of these.
        all_files: Take every file, not only images (recognised by their first bytes; SVG by name).
        hidden: Also take files and folders whose names begin with ".".
        follow_symlinks: Take what symbolic links point at, under the links' names.
        keep_mtime: Store modification times, in whole seconds; else 0.
        facts: Also record in the index what tools would open every image to learn: media type, width and height as
            shown, CRC-32C and mtime. No pixel is decoded. An image with a damaged header has no size. append
            records facts only if the blob's index has some.
        threads: Number of threads that read, 1 to 64. None: one for each processor, up to 4.
        progress: Called now and then as progress(files, bytes).
    """

    globs: Iterable[str]
    exclude: Iterable[str]
    all_files: bool
    hidden: bool
    follow_symlinks: bool
    keep_mtime: bool
    facts: bool
    threads: int | None
    progress: Progress | None


DEFAULTS = PackOptions(
    globs=(),
    exclude=(),
    all_files=False,
    hidden=False,
    follow_symlinks=False,
    keep_mtime=False,
    facts=True,
    threads=None,
    progress=None,
)
FLAGS = tuple(name for name, default in DEFAULTS.items() if isinstance(default, bool))


def with_pack_options(function: F) -> F:
    """Make a function's signature and help show the options of PackOptions, which it takes as **options.

    `Unpack` tells type checkers and editors which options there are, but inspect.signature and help() see only
    **options.
    """
    signature = inspect.signature(function)
    shown = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=PackOptions.__annotations__[name].__forward_arg__,
        )
        for name, default in DEFAULTS.items()
    ]
    own = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    described: Any = function
    described.__signature__ = signature.replace(parameters=own + shown)
    if function.__doc__ and PackOptions.__doc__:  # python -OO drops both
        documented = inspect.cleandoc(PackOptions.__doc__).partition("Attributes:\n")[2]
        function.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\nOptions:\n{documented}"
    return function


def complete_options(function: str, options: PackOptions) -> PackOptions:
    """Check options, and add the defaults of those that were not given.

    Args:
        function: The public function that the options were given to, for messages.
        options: Those that were given.

    Raises:
        TypeError: there is no such option, or it has a value of another type.
        ValueError: a value is out of range.
    """
    unknown = next((name for name in options if name not in DEFAULTS), None)
    if unknown is not None:
        raise TypeError(
            f"{function}() got an unexpected keyword argument {unknown!r}; the options are {', '.join(DEFAULTS)}"
        )
    complete: PackOptions = {**DEFAULTS, **options}
    for name in FLAGS:
        check_flag(name, complete[name])  # type: ignore[literal-required]  # mypy knows no tuple of keys
    check_threads(complete["threads"])
    check_callable("progress", complete["progress"])
    globs, exclude = complete["globs"], complete["exclude"]
    return {
        **complete,
        "globs": check_texts("globs", globs),
        "exclude": check_texts("exclude", exclude),
    }


def globs_of(options: PackOptions) -> tuple[list[str], list[str]]:
    """Return the globs and the exclusions of complete options."""
    return list(options["globs"]), list(options["exclude"])


def check_source(source: Packable) -> None:
    """Check that a source can be packed, whatever is there.

    Raises:
        TypeError: it is neither a path nor several paths or payloads.
        ValueError: it is a URL that is not in S3, or empty.
    """
    if not isinstance(source, (str, os.PathLike)):
        check_several("source", source, "paths or (name, payload) pairs")
        return
    if location_of("source", source, prefix=True).kind == "http":
        raise ValueError(
            f"source must be a path or s3://bucket/prefix, not {str(source)!r}: read_manifest takes a list of URLs"
        )


def _checked_payloads(payloads: Iterable[object]) -> Iterator[Payload]:
    """Check that each thing is a (name, payload) pair, when it is reached."""
    for pair in payloads:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"source must be (name, payload) pairs, and one is {pair!r:.200}")
        name, payload = pair
        if not isinstance(name, str):
            raise TypeError(f"source must be pairs of str and bytes, and one name is {name!r}")
        if not isinstance(payload, bytes):
            try:
                memoryview(payload)
            except TypeError:
                kind = type(payload).__name__
                raise TypeError(
                    f"source must be pairs of str and bytes, and {name!r} is {kind}"
                ) from None
        yield name, payload


def _checked_files(files: Iterable[object]) -> Iterator[str | os.PathLike[str]]:
    """Check that each thing is a local path, when it is reached."""
    for file in files:
        if not isinstance(file, (str, os.PathLike)):
            raise TypeError(
                f"source must be several paths or (name, payload) pairs, and one is {file!r}"
            )
        check_path("source", file)
        if isinstance(file, str) and "://" in file:
            raise ValueError(
                f"source must be one prefix in S3 or several local paths, and one is {file!r}: "
                "read_manifest takes a list of URLs"
            )
        yield file


def resolve_source(source: Packable, options: PackOptions, skipped: Skipped) -> ResolvedSource:
    """List a folder's files or a prefix's objects, or take files or (name, payload) pairs."""
    if isinstance(source, Objects):
        return source
    follow = options["follow_symlinks"]
    if isinstance(source, (str, os.PathLike)):
        place = Location.parse(source, prefix=True)
        if place.is_s3:
            return list_prefix(place, skipped, hidden=options["hidden"])
        source = place.text
        if not os.path.isfile(source):  # noqa: PTH113
            root = os.fsencode(source)
            return list_folder(root, skipped, hidden=options["hidden"], follow=follow)
        source = [source]
    items = iter(source)
    first = list(islice(items, 1))
    if first and isinstance(first[0], tuple):
        return _checked_payloads(chain(first, items))
    return list_files(_checked_files(chain(first, items)), skipped, follow=follow)


def filter_by_name(
    found: ResolvedSource, options: PackOptions, skipped: Skipped
) -> tuple[ResolvedSource, PackOptions]:
    """Leave out what names alone exclude, where they are known; the options are then without globs."""
    globs, exclude = globs_of(options)
    if isinstance(found, FileList):
        found = filter_files(found, globs, exclude, skipped)
    elif isinstance(found, Objects):
        found = found.only(globs, exclude, skipped, images_only=not options["all_files"])
    else:
        return found, options
    return found, {**options, "globs": (), "exclude": ()}


def expected_bytes(found: ResolvedSource) -> int | None:
    """Add up what members of these take at most, about; None when that is not known."""
    if isinstance(found, Objects):
        return found.total_bytes()
    return total_bytes(found) if isinstance(found, FileList) else None
