"""The parts of fsspec that the file system is made of. Imports fsspec."""

from __future__ import annotations

from blobpack.errors import PackageMissingError

try:
    from fsspec.spec import (
        AbstractBufferedFile as AbstractBufferedFile,
        AbstractFileSystem as AbstractFileSystem,
    )
    from fsspec.utils import stringify_path as stringify_path, tokenize as tokenize
except ImportError as exc:
    raise PackageMissingError(
        f"blobpack.integrations.fsspec needs fsspec, which can't be imported ({exc}): pip install 'blobpack[fsspec]'"
    ) from exc
