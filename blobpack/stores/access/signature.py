"""Adds the options of a TypedDict to the signature and the help of a function that takes them as **options."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

F = TypeVar("F", bound="Callable[..., object]")


def with_options(defaults: Mapping[str, Any], *options: type[Any]) -> Callable[[F], F]:
    """Return a decorator that shows the options of TypedDicts in the signature and the help of a function.

    Args:
        defaults: The options with their default values.
        options: The TypedDicts, which describe their options under "Attributes:". The first one has all options.
    """

    def decorate(function: F) -> F:
        # type checkers and editors understand Unpack; inspect.signature and help() show only **options
        signature = inspect.signature(function)
        types = options[0].__annotations__
        shown = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=types[name].__forward_arg__,
            )
            for name, default in defaults.items()
        ]
        own = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        described: Any = function
        described.__signature__ = signature.replace(parameters=own + shown)
        # python -OO removes docstrings
        if function.__doc__:
            documented = [
                inspect.cleandoc(each.__doc__ or "").partition("Attributes:\n")[2]
                for each in options
            ]
            text = inspect.cleandoc(function.__doc__)
            function.__doc__ = "\n".join((f"{text}\n\nOptions:", *documented))
        return function

    return decorate
