"""Errors can be caught as the builtin one expects, survive pickling, and are as their docstring draws them."""

from __future__ import annotations

import builtins
import copy
import pickle
import re

import pytest

from blobpack import errors

CLASSES = [
    thing
    for thing in vars(errors).values()
    if isinstance(thing, type)
    and issubclass(thing, BaseException)
    and not issubclass(thing, Warning)
    and thing.__module__ == errors.__name__
]
EXAMPLES = [
    *(kind("it says so") for kind in CLASSES),
    errors.FormatError("a.tar: no tar header here, at byte 512", offset=512),
    errors.TruncatedError("a.tar: cut, at byte 0", offset=0),
    errors.SourceError("can't be read", paths=("a.jpg", "b.jpg")),
]


def drawn_tree() -> dict[str, tuple[str, str | None]]:
    """Read the docstring: class → the one it stands under, and the builtin beside it."""
    tree: dict[str, tuple[str, str | None]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([ │├└─]*)([A-Z]\w+Error)(?: +([A-Z]\w+Error))?(?:  |$)", line)
        if found is None:
            continue
        depth, name = len(found[1]), found[2]
        above = [(other_depth, other) for other_depth, other in above if other_depth < depth]
        tree[name] = (above[-1][1] if above else "Exception", found[3])
        above.append((depth, name))
    return tree


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    bases = {
        kind.__name__: (kind.__bases__[0].__name__, *(base.__name__ for base in kind.__bases__[1:]))
        for kind in CLASSES
    }
    drawn = {
        name: (parent,) if builtin is None else (parent, builtin)
        for name, (parent, builtin) in drawn_tree().items()
    }
    assert drawn == bases
    assert len(drawn) == 13


@pytest.mark.parametrize("name", drawn_tree())
def test_each_is_caught_as_the_builtin_beside_it_and_as_ours(name: str) -> None:
    parent, builtin = drawn_tree()[name]
    raised = getattr(errors, name)("it says so")
    kinds = [errors.BlobpackError, getattr(errors, parent, Exception)]
    if builtin is not None:
        kinds.append(getattr(builtins, builtin))
    for kind in kinds:
        with pytest.raises(kind, match="it says so"):
            raise raised


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
def test_each_survives_pickling_and_copying(error: Exception) -> None:
    for again in (
        *(
            pickle.loads(pickle.dumps(error, protocol))
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
        copy.copy(error),
    ):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_attributes_say_where() -> None:
    assert errors.FormatError("x").offset is None
    assert errors.TruncatedError("x", offset=7).offset == 7
    assert errors.SourceError("x").paths == ()
