"""The stub of _native/globs.pyx."""

from collections.abc import Iterable
from typing import Self, final

from typing_extensions import Buffer

@final
class Glob:
    def __new__(cls, pattern: str) -> Self: ...

def match_names(names: Buffer, name_bounds: Buffer, patterns: Iterable[str]) -> bytes: ...
