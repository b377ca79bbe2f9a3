"""A new folder of files, which appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blobpack.errors import StorageError
from blobpack.stores.output import hidden_path, translate_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def new_folder(target: Path, what: str) -> Iterator[Path]:
    """Make a hidden folder, which takes the target's place when the block ends without an error.

    Args:
        target: The folder, which must not exist yet, or be empty.
        what: What is written into it, for messages, such as "a project".

    Raises:
        StorageError: the target is a file or a folder that is not empty, or it can't be written.
    """
    with translate_write_errors(target):
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise StorageError(
                f"{target}: already exists, and {what} is only written to a new or empty folder"
            )
        new = hidden_path(target.absolute(), os.urandom(6).hex())
    try:
        # ValueError and the like are not errors of writing
        with translate_write_errors(target):
            new.mkdir(parents=True)
            yield new
            # POSIX.1-2017, rename: an empty folder is replaced
            new.replace(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
