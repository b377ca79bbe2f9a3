"""The stub of _native/tar_piece.pyx."""

from blobpack._native.results import FoundRow

def join_members(
    blob: bytes, first: int, rows: list[FoundRow], headers: list[bytes]
) -> tuple[bytes, int]: ...
