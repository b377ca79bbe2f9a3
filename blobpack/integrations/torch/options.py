"""Options that BlobDataset and BlobStream share, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from blobpack.integrations.torch.fields import Decoders
from blobpack.integrations.torch.sample_reader import SampleReader
from blobpack.model import shown
from blobpack.opening.open import source_of
from blobpack.reading.wanted import Wanted, check_mode, check_size

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from blobpack.model import Which
    from blobpack.opening.reader import Reader


class SampleOptions(TypedDict, total=False):
    """Which samples are read, and how their fields are decoded.

    Attributes:
        members: Names, Members or rows of the members that belong to samples; an index, such as a selection, holds
            Members. None: all members.
        fields: Fields of each sample, such as ("jpg", "cls"). Then a sample is a tuple of their values, in this order.
            "jpg;png" is the first of these fields that a sample has. None: a sample is a dict of all fields, and of its
            stem as "__key__".
        size: (height, width) to resize images to; see blobpack.read_image.
        mode: Pillow's mode to convert images to; see blobpack.read_image.
        decode: Functions that decode payloads, by the name of the field. None instead of a function: the payload stays
            as it is.
        transform: Function that is called with each sample, and returns the sample that you get. It runs in the worker; if
            there are no workers, it runs in one of several threads.
    """

    members: Iterable[Which] | None
    fields: Iterable[str] | None
    size: tuple[int, int] | None
    mode: str | None
    decode: Mapping[str, Callable[[bytes], Any] | None] | None
    transform: Callable[[Any], Any] | None


def sample_reader(
    source: Reader | str | os.PathLike[str],
    options: SampleOptions,
    to_tensor: Callable[[NDArray[Any]], Any],
) -> SampleReader:
    """Check the options, open the source and group its members.

    Raises:
        TypeError: an option does not exist, or has a wrong type.
        ValueError: an option is not one of its choices.
        BlobpackError: the source can't be opened.
    """
    unknown = options.keys() - SampleOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}")
    found = source_of("source", source)
    mode = options.get("mode", "RGB")
    check_mode(mode)
    own = options.get("decode") or {}
    check_decode(own)
    transform = options.get("transform")
    if transform is not None and not callable(transform):
        raise TypeError(f"transform must be a function or None, not {shown(transform)}")
    return SampleReader(
        found,
        options.get("members"),
        check_fields(options.get("fields")),
        Decoders(Wanted(mode, size=check_size(options.get("size"))), own, to_tensor),
        transform,
    )


def check_fields(fields: object) -> tuple[str, ...] | None:
    """Check the names of fields, and return them.

    Raises:
        TypeError: this is one name instead of several, or a name is not a str.
        ValueError: there is no name.
    """
    if fields is None:
        return None
    if isinstance(fields, (str, bytes)) or not isinstance(fields, Iterable):
        raise TypeError(
            f'fields must be several names, such as ("jpg", "cls"), not {shown(fields)}'
        )
    names = tuple(fields)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"fields must be str, and one of {shown(names)} is not")
    if not names:
        raise ValueError("fields must be at least one name, or None for all")
    return names


def check_decode(own: object) -> None:
    """Check the caller's decoders.

    Raises:
        TypeError: this is no mapping of names to functions or None.
    """
    if not isinstance(own, Mapping) or not all(
        isinstance(field, str) and (function is None or callable(function))
        for field, function in own.items()
    ):
        raise TypeError(f"decode must map names of fields to functions or None, not {shown(own)}")
