"""The rule for what an output replaces: a file or object of the kind that is written, and nothing else, unless it is forced.

`blobpack pack photo.jpg out.tar`, typed with the arguments exchanged, must not destroy the photo, and neither must
`blobpack offsets out.tar -o photo.jpg`. Strategy: the first bytes of what is there decide, and the reader of that kind
judges them, so that the rule and the reader agree. An empty file is lost to nobody: mktemp(1) makes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobpack.errors import BlobNotFoundError, FormatError, StorageError
from blobpack.stores.open import open_store
from blobpack.stores.output import resolve_target
from blobpack.wording import setting, with_article

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.stores.base import Store
    from blobpack.stores.location import Location

# Suffixes that promise a format which blobpack does not write. Other programs, and people, trust them.
FOREIGN_SUFFIXES = (
    *(".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".lzma", ".lz4", ".lz", ".br", ".z"),
    *(".zip", ".7z", ".rar", ".cpio", ".iso", ".deb", ".rpm", ".zst"),
    *(".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg", ".avif", ".heic"),
    *(".heif", ".jp2", ".jxl", ".ico", ".mp4", ".mov", ".mkv", ".webm", ".mp3", ".wav", ".pdf"),
    *(
        ".txt",
        ".md",
        ".xml",
        ".json",
        ".yaml",
        ".yml",
        ".toml",
        ".tsv",
        ".log",
        ".py",
        ".sh",
    ),
    *(".npy", ".npz", ".h5", ".hdf5", ".arrow", ".feather", ".orc", ".lmdb", ".mdb", ".sqlite"),
    *(
        ".db",
        ".pt",
        ".pth",
        ".ckpt",
        ".safetensors",
        ".onnx",
        ".tfrecord",
        ".xls",
        ".xlsx",
        ".docx",
    ),
)
# suffix → the kind of output that it promises
OWN_SUFFIXES = {
    ".tar": "tar",
    ".tar.zst": "compressed tar",
    ".tzst": "compressed tar",
    ".idx": "index",
    ".pkl": "offsets file",
    ".pickle": "offsets file",
    ".csv": "CSV file of offsets",
    ".jsonl": "JSON lines file of offsets",
    ".ndjson": "JSON lines file of offsets",
    ".parquet": "Parquet file of offsets",
    ".json": "JSON",
    ".sqlite": "SQLite database",
    ".html": "gallery",
    ".htm": "gallery",
}


class OutputKind(NamedTuple):
    """A kind of file that blobpack writes.

    Attributes:
        name: The kind, for messages.
        recognise: Returns whether a store that is not empty holds this kind.
        promise: The kind that suffixes promise, in OWN_SUFFIXES; "" if it is `name`.
    """

    name: str
    recognise: Callable[[Store], bool]
    promise: str = ""


def check_suffix(name: str, target: Location, kind: OutputKind, *, force: bool = False) -> None:
    """Check that the suffix of an output promises no other format than the one that is written.

    Args:
        name: Name of the argument, for messages.
        target: The file or object to write.
        kind: What is written.
        force: Allow any suffix.

    Raises:
        ValueError: the suffix promises another format.
    """
    text = target.text.lower()
    promised = {
        suffix: OWN_SUFFIXES.get(suffix, "another format")
        for suffix in (*OWN_SUFFIXES, *FOREIGN_SUFFIXES)
        if text.endswith(suffix)
    }
    if promised and (kind.promise or kind.name) not in promised.values() and not force:
        suffix = max(promised, key=len)
        raise ValueError(
            f"{name} {target.text!r} ends in {suffix}, but {with_article(kind.name)} is written: choose another name; "
            f"{setting('force', True)} allows this one"
        )


def check_replaceable(target: Location, kind: OutputKind, *, force: bool = False) -> bool:
    """Check that an output may take the place of what is there now.

    Args:
        target: The file or object to write.
        kind: What is written.
        force: A file or object of any kind may be replaced.

    Returns:
        Whether there is something that is replaced.

    Raises:
        StorageError: there is something else than a plain file; a file or object of another kind; or one that can't be read.
    """
    if target.is_local and not resolve_target(target).exists():
        return False
    try:
        # for S3, the tail comes with the opening request, and it may hold a footer
        with open_store(target, tail=True) as store:
            if force or not store.size or kind.recognise(store):
                return True
    except BlobNotFoundError:
        return False
    # the reader of this kind met bytes that are not of this kind
    except FormatError:
        pass
    except StorageError as exc:
        if force:
            return True
        error = StorageError(f"{target}: can't be replaced: {exc}")
        error.status = exc.status
        raise error from exc
    raise StorageError(
        f"{target}: exists and is no {kind.name}, so it is not replaced; {setting('force', True)} replaces it"
    )
