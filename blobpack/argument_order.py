"""Recognise swapped arguments.

Strategy: a call is looked at only after it has failed, so nothing is slower. If two arguments fit each other's place
but not their own, the message of the error says so. It is a guess, so the kind of the error stays.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import wraps
from operator import itemgetter
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar, cast

from blobpack._native.members import Member
from blobpack.errors import BlobpackError
from blobpack.stores.arguments import is_place, local_path_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Fits = Callable[[Any], bool]

F = TypeVar("F", bound="Callable[..., Any]")

# parameters that say what is written
OUTPUTS = ("target", "folder")


def recognise_swap(**fits: Fits) -> Callable[[F], F]:
    """Return a decorator that recognises two positional arguments that were swapped.

    Args:
        fits: The names of two parameters that stand next to each other, each with a function that returns whether a value
            can be meant for it. The functions may look at the disk.
    """

    def decorate(function: F) -> F:
        parameters = list(inspect.signature(function).parameters)
        names = sorted(fits, key=parameters.index)
        first, second = (fits[name] for name in names)
        pair = itemgetter(*map(parameters.index, names))
        hint = f"{names[0]} and {names[1]} seem to be swapped: {names[0]} comes before {names[1]}"

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return function(*arguments, **named)
            except (TypeError, ValueError, BlobpackError) as exc:
                # other errors than those of blobpack may have several arguments, such as a UnicodeError
                if len(arguments) > parameters.index(names[1]) and len(exc.args) == 1:
                    one, other = pair(arguments)
                    # a look at the disk may fail in many ways, and must not hide the error
                    with suppress(Exception):
                        if is_swapped(one, other, first, second) and not (
                            names[1] in OUTPUTS and may_be_right(one, other, names[1], second)
                        ):
                            # a line of its own below a list of files
                            separator = "\n  " if "\n" in str(exc) else "; "
                            # in place: its type, its attributes and its traceback stay
                            exc.args = (f"{exc}{separator}{hint}",)
                raise

        return cast("F", call)

    return decorate


def is_swapped(one: object, other: object, first: Fits, second: Fits) -> bool:
    """Return whether two values fit each other's place, but not their own."""
    # None is what an argument is that was left out, and is in nobody's place
    if one is None or other is None:
        return False
    return not (first(one) and second(other)) and first(other) and second(one)


def may_be_right(source: object, output: object, name: str, fits: Fits) -> bool:
    """Return whether a source is merely missing, and the output is an old one, which is to be replaced.

    Args:
        source: What was given first.
        output: What was given second.
        name: Name of its parameter, "target" or "folder".
        fits: Returns whether a value can be meant for this parameter.
    """
    missing, old = local_path_of(source), local_path_of(output)
    if missing is None or old is None or os.path.exists(missing):  # noqa: PTH110 (a str)
        return False
    is_there = os.path.isdir if name == "folder" else os.path.exists
    return is_there(old) and fits(output)


def is_output(value: object) -> bool:
    """Return whether a value is a path or URL, or a file that is open for writing."""
    return is_place(value) or hasattr(value, "write")


def is_new_file(value: object) -> bool:
    """Return whether a value is a path or URL where a file can be written: no folder."""
    path = local_path_of(value)
    return is_place(value) and not (path and os.path.isdir(path))  # noqa: PTH112 (a str)


def is_new_folder(value: object) -> bool:
    """Return whether a value is a path or URL where a folder can be filled: no folder that holds anything, and no file."""
    path = local_path_of(value)
    if path is None or not os.path.exists(path):  # noqa: PTH110 (a str)
        return is_place(value)
    return os.path.isdir(path) and not os.listdir(path)  # noqa: PTH112, PTH208 (a str)


def is_name(value: object) -> bool:
    """Return whether a value can mean a member: a name, a Member or a row."""
    return isinstance(value, (str, Member, SupportsIndex))


def is_number(value: object) -> bool:
    """Return whether a value is a whole number."""
    return isinstance(value, SupportsIndex)


def is_several(value: object) -> bool:
    """Return whether a value holds several things, and is no path."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, os.PathLike))


def is_there(value: object) -> bool:
    """Return whether a value is no path, or a URL, or the path of a file or folder that exists."""
    path = local_path_of(value)
    return path is None or os.path.exists(path)  # noqa: PTH110 (a str)


def is_file_there(value: object) -> bool:
    """Return whether a value is a URL, or the path of a file that exists."""
    path = local_path_of(value)
    return is_place(value) if path is None else os.path.isfile(path)  # noqa: PTH113 (a str)
