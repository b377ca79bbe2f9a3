"""The public names, each loaded when it is first asked for: `import blobpack` alone costs next to nothing."""

from __future__ import annotations

import importlib
from types import ModuleType

# where each public name is at home
HOMES = {
    "editing.append": ("append",),
    "reading.blob": (
        "Blob",
        "open_blob",
    ),
    "collection.collect": ("collect",),
    "collection.collection": (
        "Collection",
        "open_collection",
    ),
    "editing.merge": (
        "merge",
        "subset",
    ),
    "errors": (
        "BlobChangedError",
        "BlobNotFoundError",
        "BlobpackError",
        "ChecksumError",
        "DuplicateNameError",
        "FactsMissingError",
        "FormatError",
        "ImageError",
        "MemberNotFoundError",
        "MissingIndexWarning",
        "PackageMissingError",
        "SourceError",
        "StaleIndexError",
        "StorageError",
        "TruncatedError",
        "UnsafeNameError",
    ),
    "reading.extract": (
        "ExtractReport",
        "extract",
    ),
    "reading.image": (
        "read_image",
        "read_images",
    ),
    "index.index": ("Index",),
    "packing.manifest": ("read_manifest",),
    "model": (
        "ByteRange",
        "Member",
        "ScanReport",
    ),
    "index.offsets": (
        "iter_offsets",
        "read_offsets",
        "write_offsets",
    ),
    "packing.pack": ("pack",),
    "packing.repack": ("repack",),
    "packing.reports": (
        "AppendReport",
        "CollectReport",
        "CombineReport",
        "PackReport",
    ),
    "tar.scan": ("scan",),
    "packing.shards": ("pack_shards",),
    "stores.stats": (
        "Stats",
        "stats",
    ),
    "tar.check": ("Failure",),
    "reading.verify": (
        "VerifyReport",
        "verify",
    ),
}
HOME_OF = {name: module for module, names in HOMES.items() for name in names}


class LazyPackage(ModuleType):
    """The package. A function and the module it is at home in may have one name: the function is what is seen."""

    def __getattr__(self, name: str) -> object:
        """Load a public name."""
        home = HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        thing = getattr(importlib.import_module(f"{self.__name__}.{home}"), name)
        super().__setattr__(name, thing)
        return thing

    def __setattr__(self, name: str, value: object) -> None:
        """Let the import of a submodule not hide a function of its name."""
        if not (name in HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        """List the public names."""
        return sorted({name for name in super().__dir__() if name.startswith("__")} | {*HOME_OF})
