"""The stub of _native/gather.pyx."""

from collections.abc import Callable
from typing import Final

from typing_extensions import Buffer

from blobpack._native.results import Gathered

FILE_IS_TARGET: Final[int]
FILE_NOT_IMAGE: Final[int]
FILE_NOT_REGULAR: Final[int]
FILE_UNREADABLE: Final[int]
FILE_CHANGED: Final[int]

def gather(
    root_fd: int,
    out_fd: int,
    paths: list[bytes],
    names: list[bytes],
    *,
    target_device: int,
    target_inode: int,
    images_only: bool,
    follow_links: bool,
    follow_folders: bool,
    keep_mtime: bool,
    facts: bool,
    threads: int,
    progress: Callable[[int, int], object] | None = None,
    start: int = 0,
    held: bytearray | None = None,
) -> Gathered: ...
def open_folder(root_fd: int, path: bytes, *, follow: bool) -> int: ...
def encode_header(name: bytes, size: int, mtime: int = 0) -> bytes: ...
def recognise_image(payload: Buffer, name: bytes) -> bool: ...
