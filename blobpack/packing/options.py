"""The options that pack, append and pack_shards share: which files are packed, and how."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from blobpack.model import check_callable, check_flag, check_texts, check_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blobpack.model import Progress

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
