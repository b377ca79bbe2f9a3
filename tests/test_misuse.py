"""Every argument of every public function, misused: a plain ValueError or TypeError, before anything is written.

The functions come from blobpack.__all__ and their parameters from their signatures. A parameter without a case here
fails test_every_parameter_has_a_case, so a new one can't be forgotten.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import io
import os
import re
import shutil
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, is_typeddict

import numpy as np
import pytest
from PIL import Image

import blobpack
from blobpack import BlobpackError, Member
from blobpack.columns import MEDIA_TYPES
from blobpack.model import (
    Duplicates,
    FailureKind,
    ForeignFormat,
    Hedge,
    IndexPlace,
    NameStyle,
    OffsetsFormat,
    Stale,
)
from blobpack.packing.options import DEFAULTS, PackOptions

FAR = "s3://bucket/key"

with io.BytesIO() as _file:
    Image.new("L", (2, 2)).save(_file, "PNG")
    PNG = _file.getvalue()


class Bad(NamedTuple):
    """A value that is misuse, and the error that it must be; `late` for one that is met in the midst of the work."""

    value: Any
    error: type[Exception]
    says: tuple[str, ...] = ()
    late: bool = False


def types(*values: Any) -> list[Bad]:
    return [Bad(value, TypeError) for value in values]


def values(*values: Any) -> list[Bad]:
    return [Bad(value, ValueError) for value in values]


def late(bad: list[Bad]) -> list[Bad]:
    return [case._replace(late=True) for case in bad]


def choice(choices: Any) -> list[Bad]:
    listed = get_args(choices)
    wrong = ("nonsense", "", listed[0].upper(), None, 5, b"none", [listed[0]])
    return [Bad(value, ValueError, tuple(map(repr, (*listed, value)))) for value in wrong]


def number(least: int, most: int | None = None) -> list[Bad]:
    above = [1 << 70] if most is None else [most + 1, 1 << 70]
    return [*types("2", 1.5, True), *values(least - 1, -(1 << 70), *above)]


PATH = [*types(None, 5, b"bytes", ["list"]), *values("", "a\0b", "a\ud800")]
LOCAL = [*PATH, *values(FAR, "https://host/out", "file://far/out", "s3:/bucket/key")]
TARGET = [
    *PATH,
    *values("https://host/out.tar", "gopher://host/out.tar", "file://elsewhere/out.tar"),
    *values("s3://bucket", "s3:///key", "s3://bucket/prefix/"),
]
FOLDER = [*PATH, *values("https://host/out", "file://far/out", "s3:/bucket/key")]
ANY_URL = [*PATH, *values("gopher://host/blob.tar", "s3://bucket")]
# also a bucket, whose blobs are read all
PLACE = [*PATH, *values("gopher://host/blob.tar")]
FLAG = types("no", None, 2, 1.0)
CALLABLE = types("print", 5, [])
THREADS = number(1, 64)
TEXTS = types(None, 5, b"*", [b"*"], ["*", None], {"*": 5}.items())
TEXT = types(None, 5, b"text", ["text"])
NAMES = [*types("one", None, 5, b"one"), *late(types([5], [None], [b"one"], [Path("one")]))]
SEVERAL = [
    *types("one", None, 5, b"one"),
    *late(types([1.5], [None], [b"one"], [Path("one")], [True])),
]
REMOTE = {
    "s3": types("s3", {}, 5, {"anonymous": True}),
    "headers": [*types("X: 1", 5, ["X"], {"X": 1}), *values({"Range": "x"}, {"X": "a\nY: b"})],
    "bearer_token": [*types(5, b"token", ["token"]), *values("", "two words")],
}
COPIED = {**REMOTE, "source_s3": REMOTE["s3"]}
ROWS = types("one", None, 5, 1.5, ["a.png"], [1.5], [True, 1], {0}, np.ones((2, 2)))
MEMBERS = [*types("one", None, 5, b"one"), *late(types([5], ["one"], [None]))]
SOURCE = [
    *types(None, 5, b"folder"),
    *values("", "https://host/folder", "file://elsewhere/folder", "s3://", "a\0b"),
    *late(types([5], [None], [b"file"], [("a", "text")], [("a", None)], [(b"a", b"1")], [("a",)])),
    *late(types({5: b"1"}, {b"a": b"1"}, {"a": "text"}, {"a": None})),
    *late(values([""], ["s3://"], ["https://host/a.jpg"], [FAR, "a.jpg"])),
]
SIZE = types("2", 1.5, True)
ROW = types("2", 1.5, None, b"2")
WHICH = types(None, 1.5, True, b"a", ["a"], slice(1))
PRICE = [*types("1", None, [1], True), *values(-1, float("nan"), float("inf"))]
OUTPUT = TARGET
IMAGE_SIZE = [
    *types(5, "2x2", b"22", 2.0, {2: 2}, (2,), (2, 2, 3), (2.0, 2), ("2", 2), (None, 2), (True, 2)),
    *values((0, 2), (2, -1), (2, 1 << 16), (1 << 70, 2)),
]
READ_ONLY = np.zeros((2, 2, 3), np.uint8)
READ_ONLY.flags.writeable = False
OUT = [*types(5, "out", b"out", bytearray(12), [[[0]]], memoryview(b"out")), *values(READ_ONLY)]
PACKED: dict[str, list[Bad]] = {
    "globs": TEXTS,
    "exclude": TEXTS,
    **dict.fromkeys(
        ("all_files", "hidden", "follow_symlinks", "keep_mtime", "facts", "dry_run"), FLAG
    ),
    "threads": THREADS,
    "progress": CALLABLE,
    "on_skipped": CALLABLE,
    "directory": [bad for bad in PATH if bad.value is not None] + values("https://host/x"),
    "strip": [*number(0), *types(None)],
    "prefix": [*TEXT, *values("/", "../", "a/../b", "a\0", "\ud800")],
    **COPIED,
}
CACHE = [*(bad for bad in LOCAL if bad.value is not None)]
OPENED = {**REMOTE, "cache": CACHE, "cache_bytes": number(1 << 20), "hedge": choice(Hedge)}
INDEX_OR_PATH = [bad for bad in ANY_URL if bad.value is not None]
ALLOW = [*types(None, 5, [5], [None], b"folder"), *values("", ["a", ""], "gopher://host/x", "a\0b")]
LEVEL = number(1, 22)
BLOB_OR_URL = ANY_URL


class Ground:
    """Where the functions are called: small files of each kind; or, for `there=False`, names of none."""

    def __init__(self, folder: Path, *, there: bool = True) -> None:
        self.new = folder / "new"
        self.new_tar = folder / "new.tar"
        there_folder = folder if there else folder / "nowhere"
        self.files = there_folder / "files"
        self.tar = there_folder / "blob.tar"
        self.offsets = there_folder / "blob_offsets.pkl"
        self.idx = there_folder / "blob.idx"
        self.collection = there_folder / "collection.idx"
        self.manifest = there_folder / "list.txt"
        self.parquet = there_folder / "blob.parquet"
        self.plain = there_folder / "plain.tar"

    def build(self) -> Ground:
        self.files.mkdir()
        for name in ("a.png", "b.png"):
            (self.files / name).write_bytes(PNG)
        blobpack.pack(self.files, self.tar)
        with blobpack.open_blob(self.tar) as blob:
            blob.index.save(self.idx)
            blob.index.to_parquet(self.parquet)
            blobpack.write_offsets(blob.index, self.offsets)
        blobpack.collect([self.tar], self.collection)
        self.manifest.write_text("a.png\nb.png\n")
        with tarfile.open(self.plain, "w") as tar:
            tar.add(self.files / "a.png", "a.png")
        return self

    @property
    def blob(self) -> blobpack.Blob:
        return blobpack.open_blob(self.tar)

    @property
    def all(self) -> blobpack.Collection:
        return blobpack.open_collection(self.collection)

    @property
    def index(self) -> blobpack.Index:
        return blobpack.Index.load(self.idx)


class Call(NamedTuple):
    """A function, a right use of it, and what is misuse of its parameters."""

    right: Callable[[Ground], tuple[Callable[..., Any], dict[str, Any]]]
    bad: dict[str, list[Bad]]


def call(right: Callable[[Ground], Any], **bad: list[Bad]) -> Call:
    return Call(right, bad)


def of(kind: str, method: str, given: dict[str, Any], **bad: list[Bad]) -> dict[str, Call]:
    """A method of something that is open."""
    return {
        f"{kind}.{method}": Call(
            lambda ground: (getattr(getattr(ground, PLACES[kind]), method), given), bad
        )
    }


PLACES = {"Blob": "blob", "Collection": "all", "Index": "index"}
NAME = {"name": "a.png"}

CALLS: dict[str, Call] = {
    "pack": call(
        lambda g: (blobpack.pack, {"source": g.files, "target": g.new_tar}),
        source=SOURCE,
        target=TARGET,
        resume=[*FLAG, *values(True)],
        allow_empty=FLAG,
        force=FLAG,
        index=choice(IndexPlace),
        level=[*LEVEL, *values(3)],
        **PACKED,
    ),
    "pack_shards": call(
        lambda g: (
            blobpack.pack_shards,
            {"source": g.files, "folder": g.new, "shard_bytes": 1 << 20},
        ),
        source=SOURCE,
        folder=[*PATH, *values("https://host/x", "gopher://host/x", "s3://bucket", "s3://bucket/")],
        shard_bytes=[*number(1025), *types(None)],
        allow_empty=FLAG,
        level=LEVEL,
        **{name: bad for name, bad in PACKED.items() if name != "dry_run"},
    ),
    "append": call(
        lambda g: (
            blobpack.append,
            {"blob": g.tar, "source": [("new.png", PNG)]},
        ),
        # a bucket or prefix may hold a collection
        blob=[case for case in TARGET if case not in values("s3://bucket", "s3://bucket/prefix/")],
        source=SOURCE,
        duplicates=choice(Duplicates),
        stale=choice(Stale),
        drop=[*types(None, 5, b"acl", [5]), *values("nonsense", "", ["acl", "x"], ["tags"])],
        **{name: bad for name, bad in PACKED.items() if name != "dry_run"},
    ),
    "repack": call(
        lambda g: (blobpack.repack, {"source": g.plain, "target": g.new_tar}),
        source=ANY_URL,
        target=TARGET,
        globs=TEXTS,
        exclude=TEXTS,
        all_files=FLAG,
        dry_run=FLAG,
        index=choice(IndexPlace),
        level=[*LEVEL, *values(3)],
        member_bytes_max=[*number(1), *types(None)],
        concatenated=FLAG,
        apple_double=FLAG,
        allow_empty=FLAG,
        force=FLAG,
        progress=CALLABLE,
        **COPIED,
    ),
    "merge": call(
        lambda g: (blobpack.merge, {"sources": [g.tar], "target": g.new_tar}),
        target=[*TARGET, *values("new.tar.zst", "new.tzst", "new.zip")],
        allow_empty=FLAG,
        force=FLAG,
        sources=[
            *types("blob.tar", None, 5, b"blob.tar", Path("blob.tar")),
            *types([5], [None], [b"blob.tar"]),
            *values([""]),
        ],
        duplicates=choice(Duplicates),
        concatenated=FLAG,
        index=choice(IndexPlace),
        progress=CALLABLE,
        **COPIED,
    ),
    "subset": call(
        lambda g: (
            blobpack.subset,
            {"source": g.tar, "target": g.new_tar, "members": ["a.png"]},
        ),
        source=PLACE,
        target=[*TARGET, *values("new.tar.zst", "new.tzst", "new.zip")],
        allow_empty=FLAG,
        force=FLAG,
        members=[*types("one", None, 5, b"one"), *late(types([1.5], [None]))],
        index=choice(IndexPlace),
        progress=CALLABLE,
        **COPIED,
    ),
    "collect": call(
        lambda g: (blobpack.collect, {"blobs": [g.tar], "target": g.new}),
        blobs=[*types(None, 5, b"folder"), *values(""), *types([5], [None]), *values([""])],
        target=[bad for bad in TARGET if bad.value is not None] + values(None, "new.tar"),
        force=FLAG,
        duplicates=choice(Duplicates),
        add=FLAG,
        scan=FLAG,
        concatenated=FLAG,
        progress=CALLABLE,
        **REMOTE,
    ),
    "extract": call(
        lambda g: (blobpack.extract, {"source": g.tar, "folder": g.new}),
        source=PLACE,
        folder=FOLDER,
        members=[*types("one", 5, b"one"), *late(types([1.5], [None]))],
        progress=CALLABLE,
        **COPIED,
    ),
    "open_blob": call(
        lambda g: (blobpack.open_blob, {"url": g.tar}),
        url=ANY_URL,
        index=INDEX_OR_PATH,
        stale=choice(Stale),
        **OPENED,
    ),
    "open_collection": call(
        lambda g: (blobpack.open_collection, {"url": g.collection}),
        url=PATH,
        allow=ALLOW,
        open_blobs=number(0),
        **OPENED,
    ),
    "open": call(
        lambda g: (blobpack.open, {"url": g.tar}),
        url=PLACE,
        index=INDEX_OR_PATH,
        stale=choice(Stale),
        duplicates=choice(Duplicates),
        allow=ALLOW,
        open_blobs=number(0),
        **OPENED,
    ),
    "read_image": call(
        lambda g: (blobpack.read_image, {"blob": g.tar, "which": "a.png"}),
        blob=PLACE,
        which=WHICH,
        mode=[Bad(mode, ValueError, ("'RGB'", "'L'")) for mode in ("nonsense", "", 5, b"RGB")],
        apply_exif_orientation=FLAG,
        size=IMAGE_SIZE,
        out=OUT,
        **REMOTE,
    ),
    "read_images": call(
        lambda g: (blobpack.read_images, {"blob": g.tar, "several": ["a.png"]}),
        blob=PLACE,
        several=SEVERAL,
        mode=[Bad(mode, ValueError, ("'RGB'", "'L'")) for mode in ("nonsense", "", 5, b"RGB")],
        apply_exif_orientation=FLAG,
        size=IMAGE_SIZE,
        out=[*OUT, *values(np.zeros(9, np.uint8), np.zeros((2, 2), np.uint8))],
        **REMOTE,
    ),
    "read_manifest": call(
        lambda g: (blobpack.read_manifest, {"path": g.manifest}),
        path=LOCAL,
        base=[*types(None, 5, b"base"), *values("gopher://host/x", "a\0b")],
        **REMOTE,
    ),
    "read_offsets": call(lambda g: (blobpack.read_offsets, {"path": g.offsets}), path=LOCAL),
    "iter_offsets": call(
        lambda g: (blobpack.iter_offsets, {"path": g.offsets}),
        path=LOCAL,
        rows=[*number(1), *types(None)],
    ),
    "write_foreign_index": call(
        lambda g: (
            blobpack.write_foreign_index,
            {"source": g.tar, "target": g.new, "format": "hfutils"},
        ),
        source=PLACE,
        target=[*TARGET, *values("new.txt", "new.tar")],
        format=choice(ForeignFormat),
        force=FLAG,
        **REMOTE,
    ),
    "write_offsets": call(
        lambda g: (blobpack.write_offsets, {"source": g.index, "target": g.new}),
        source=[*types(None, 5, b"blob.idx"), *values(""), *late(types([5], ["blob.idx"]))],
        members=[*types("one", 5, b"one"), *values(["a.png"], [0])],
        target=[*TARGET, *values("new.txt", "new.tar")],
        force=FLAG,
        names=choice(NameStyle),
        format=[bad for bad in choice(OffsetsFormat) if bad.value is not None],
        **REMOTE,
    ),
    "scan": call(
        lambda g: (blobpack.scan, {"blob": g.tar}),
        blob=ANY_URL,
        concatenated=FLAG,
        facts=FLAG,
        threads=THREADS,
        **REMOTE,
    ),
    "verify": call(
        lambda g: (blobpack.verify, {"source": g.tar}),
        source=PLACE,
        index=INDEX_OR_PATH,
        full=FLAG,
        threads=THREADS,
        progress=CALLABLE,
        **REMOTE,
    ),
    "stats": call(lambda g: (blobpack.stats, {})),
    "Stats.cost_usd": call(
        lambda g: (blobpack.stats().cost_usd, {}), usd_per_1000=PRICE, usd_per_1000_puts=PRICE
    ),
    "Stats.described": call(
        lambda g: (blobpack.stats().described, {"cost_usd": 0.0}), cost_usd=PRICE
    ),
    "ScanReport.without_row": call(
        lambda g: (blobpack.ScanReport(bytes_scanned=0, end_marker=2).without_row, {})
    ),
    "Blob": call(
        lambda g: (blobpack.Blob, {"store": g.blob.store, "index": g.index}),
        index=types(None, 5, "blob.idx"),
        hedge=choice(Hedge),
    ),
    **of("Blob", "read_members", {"members": []}, members=MEMBERS),
    **of("Collection", "read_members", {"members": []}, members=MEMBERS),
    **of("Collection", "url_of", {"which": "a.png"}, which=WHICH),
    **{
        name: case
        for kind in ("Blob", "Collection")
        for method, given, bad in (
            ("read", {"which": "a.png"}, {"which": WHICH}),
            ("get", {"which": "a.png"}, {"which": WHICH}),
            ("aread", {"which": "a.png"}, {"which": WHICH}),
            ("read_many", {"several": ["a.png"]}, {"several": SEVERAL}),
            ("read_packed", {"several": ["a.png"]}, {"several": SEVERAL}),
            ("aread_many", {"several": ["a.png"]}, {"several": SEVERAL}),
            ("read_rows", {"rows": [0]}, {"rows": ROWS}),
            ("keys", {}, {}),
            ("values", {}, {}),
            ("items", {}, {}),
            ("close", {}, {}),
        )
        for name, case in of(kind, method, given, **bad).items()
    },
    "Index": call(
        lambda g: (blobpack.Index, {"members": [Member("a", 0, 1)]}),
        members=[
            *types(None, 5, "one", b"one", [5], ["one"], [None]),
            *values([Member("a", 0, 1, width=-1)]),
            *values(
                [Member("a", 0, 1, media_type="image/jpg")], [Member("a", 0, 1, width=1 << 40)]
            ),
        ],
        report=[
            *types(5, "report"),
            *values(blobpack.ScanReport(bytes_scanned=-1, end_marker=2)),
        ],
    ),
    "Index.load": call(lambda g: (blobpack.Index.load, {"path": g.idx}), path=ANY_URL, **REMOTE),
    "Index.from_parquet": call(
        lambda g: (blobpack.Index.from_parquet, {"path": g.parquet}), path=LOCAL
    ),
    "Index.from_arrow": call(
        lambda g: (blobpack.Index.from_arrow, {"table": g.index.to_arrow()}),
        table=types(None, 5, "table"),
    ),
    "Index.from_pandas": call(
        lambda g: (blobpack.Index.from_pandas, {"frame": g.index.to_pandas()}),
        frame=types(None, 5, "frame", {"name": ["a"]}),
    ),
    "Index.concatenate": call(
        lambda g: (blobpack.Index.concatenate, {"indexes": [g.index]}),
        indexes=types(None, 5, "one", [5], [None], ["one"]),
    ),
    "Index.save": call(
        lambda g: (g.index.save, {"path": g.new}),
        path=[*TARGET, *values("new.tar")],
        force=FLAG,
        **REMOTE,
    ),
    "Index.to_references": call(
        lambda g: (g.index.to_references, {"url": "s3://bucket/out.tar"}),
        url=[*types(5, [5], b"out.tar"), *values("", "gopher://host/out.tar")],
    ),
    "Index.to_parquet": call(
        lambda g: (g.index.to_parquet, {"path": g.new}),
        path=[*OUTPUT, *values("new.csv")],
        force=FLAG,
        **REMOTE,
    ),
    **of(
        "Index",
        "select",
        {},
        globs=types(None, 5, b"*", ["*"]),
        exclude=TEXTS,
        regex=[*types(5, b"a", ["a"], re.compile(b"a")), *values("(", "[")],
        names=[*types(5, b"one", [5], [None], [b"one"])],
        media_type=[
            *types(5, b"image/png", [5]),
            *(
                Bad(media_type, ValueError, (repr(media_type), *MEDIA_TYPES[1:]))
                for media_type in ("image/jpg", "")
            ),
        ],
        where=CALLABLE,
        **dict.fromkeys(
            ("min_size", "max_size", "min_width", "max_width", "min_height", "max_height"), SIZE
        ),
    ),
    **of("Index", "head", {}, n=ROW),
    **of("Index", "get", {"which": "a.png"}, which=WHICH),
    **of(
        "Index",
        "rows",
        {"several": ["a.png"]},
        several=types("one", None, 5, [1.5], [None], [b"a"], [["a"]], [True, 1], np.ones((2, 2))),
    ),
    **{
        name: case
        for method in ("row_of", "range_of")
        for name, case in of("Index", method, {"which": "a.png"}, which=WHICH).items()
    },
    **{
        name: case
        for method in ("close", "to_numpy", "to_arrow", "to_pandas", "with_basenames")
        for name, case in of("Index", method, {}).items()
    },
}

# what is no misuse by a caller: these take what other modules of the package make and hand over
NO_CASES = {
    "Blob.get default": "anything may be returned where there is no member",
    "Collection.get default": "anything may be returned where there is no member",
    "Index.get default": "anything may be returned where there is no member",
    "Blob store": "a Store is no public type: open_blob opens one",
    "Index.to_daft": "needs Daft: tests/tools/daft; its URL is checked as that of to_references",
    "Index.to_lance": "needs Lance: tests/tools/lance; its URL is checked as that of to_references",
    "Collection": "open_collection makes it of types that are not public",
    "Member": "native: its signature's types are checked, and tests/test_selection.py looks at them",
}


def public_parameters() -> Iterator[tuple[str, str | None]]:
    """Every public function and method, with each of its parameters; None for one that has none."""
    for name in blobpack.__all__:
        thing = getattr(blobpack, name)
        if not isinstance(thing, type):
            if callable(thing):
                yield from parameters_of(name, thing)
        elif not issubclass(thing, BaseException) and not is_typeddict(thing):
            # values that blobpack makes, and callers read
            if not dataclasses.is_dataclass(thing) and not issubclass(thing, tuple):
                yield from parameters_of(name, thing)
            for method in dir(thing):
                function = inspect.getattr_static(thing, method)
                if not method.startswith("_") and isinstance(
                    function, (classmethod, staticmethod, type(parameters_of))
                ):
                    yield from parameters_of(f"{name}.{method}", getattr(thing, method))


def parameters_of(name: str, function: Callable[..., Any]) -> Iterator[tuple[str, str | None]]:
    if name in NO_CASES:
        return
    own = [parameter for parameter in inspect.signature(function).parameters if parameter != "self"]
    for parameter in own or [None]:
        if f"{name} {parameter}" not in NO_CASES:
            yield name, parameter


def title_of(value: object) -> str:
    """Return the text of a value in a test's name, which is the same in every process."""
    # the text of a memoryview is its address
    return "memoryview" if isinstance(value, memoryview) else f"{value!r:.40}"


PARAMETERS = list(public_parameters())
MISUSES = [
    pytest.param(name, parameter, bad, id=f"{name}-{parameter}={title_of(bad.value)}")
    for name, case in CALLS.items()
    for parameter, cases in case.bad.items()
    for bad in cases
]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ground")
    Ground(folder).build()
    return folder


@pytest.fixture
def ground(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    return Ground(tmp_path)


def run(function: Callable[..., Any], given: dict[str, Any]) -> None:
    """Call, and go through what is returned to its end."""
    is_select = function.__name__ == "select"  # whose globs are positional
    result = function(given["globs"]) if is_select and "globs" in given else function(**given)
    if isinstance(result, Awaitable):
        asyncio.run(wait(result))
    elif isinstance(result, AsyncIterator):
        asyncio.run(exhaust(result))
    elif isinstance(result, Iterator):
        list(result)


async def wait(result: Awaitable[Any]) -> Any:
    return await result


async def exhaust(result: AsyncIterator[Any]) -> None:
    async for _ in result:
        pass


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, by name."""
    return {
        os.fspath(path.relative_to(folder)): without_stamp(path.read_bytes())
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def without_stamp(packed: bytes) -> bytes:
    """Return a file without the stamp of the index in it, and the checksum over it: a failed append changes these alone."""
    if packed[-8:] != b"BLOBIDX\n":
        return packed
    footer = bytearray(packed[-512:])
    del footer[336:344], footer[:4]
    return packed[:-512] + footer


def test_every_parameter_has_a_case() -> None:
    missing = [
        f"{name} {parameter or '()'}"
        for name, parameter in PARAMETERS
        if name not in CALLS or (parameter and not CALLS[name].bad.get(parameter))
    ]
    assert not missing
    unknown = {(name, parameter) for name, case in CALLS.items() for parameter in case.bad}
    assert not unknown - set(PARAMETERS)


def test_every_choice_has_a_case() -> None:
    """A Literal that the model gains must be checked somewhere, or be what blobpack itself says."""
    import blobpack.model

    literals = {name for name, thing in vars(blobpack.model).items() if get_args(thing)}
    assert literals == {
        "Checksum",
        "Duplicates",
        # arguments of registration: tests/test_encord.py
        *("EncordForm", "EncordImageMetadata", "EncordKind", "EncordOutput", "EncordTitle"),
        # arguments of CloudObject and FileOptions: tests/test_encord.py
        *("EncordKeyStyle", "EncordObjectKind"),
        "Encryption",
        "ExportTool",
        "FailureKind",
        "ForeignFormat",
        "Hedge",
        "ImageForm",
        "IndexPlace",
        "NameConflict",
        "NameStyle",
        "OnError",  # argument of BlobFileSystem.cat: tests/test_fsspec.py
        "OffsetsFormat",
        "ProblemKind",  # no argument: check_project says it
        *(
            "RayColumn",
            "RayOrder",
        ),  # arguments of read_blobs: tests/test_ray_read.py, tests/tools/ray
        "SortKey",
        "Property",
        "Rescan",  # of the command line alone
        "Stale",
    }
    assert "archive" in get_args(FailureKind)  # no argument: verify says it


def test_choices_stand_in_the_model_alone() -> None:
    package = Path(blobpack.__file__).parent
    users = [path for path in package.rglob("*.py") if "Literal[" in path.read_text()]
    # what a Location is and means, not what callers choose
    kinds_of_places = {package / "stores" / "location.py", package / "opening" / "kind.py"}
    # the types of what it returns depend on a choice
    overloads = {package / "integrations" / "supervisely" / "offsets.py"}
    assert set(users) == {package / "model.py", *kinds_of_places, *overloads}


@pytest.mark.parametrize("name", CALLS)
def test_the_right_use_works(name: str, ground: Ground) -> None:
    run(*CALLS[name].right(ground))


@pytest.mark.parametrize(("name", "parameter", "bad"), MISUSES)
def test_misuse_names_the_argument_and_changes_nothing(
    name: str, parameter: str, bad: Bad, ground: Ground, tmp_path: Path
) -> None:
    function, given = CALLS[name].right(ground)
    before = contents(tmp_path)
    with pytest.raises(bad.error) as caught:
        run(function, given | {parameter: bad.value})
    assert not isinstance(caught.value, BlobpackError)
    assert type(caught.value) is bad.error
    message = str(caught.value)
    assert parameter in message
    for said in bad.says:
        assert said in message
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "parameter", "bad"),
    [
        case
        for case in MISUSES
        if not case.values[2].late
        and case.values[0] in blobpack.__all__
        and case.values[0].islower()
    ],
)
def test_misuse_is_found_before_anything_is_read(
    name: str, parameter: str, bad: Bad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is nothing to read, reading anything first would be another error."""
    monkeypatch.chdir(tmp_path)
    nowhere = Ground(tmp_path, there=False)
    if name in ("extract", "write_offsets"):  # they take what is open already
        nowhere = Ground(tmp_path).build()
    function, given = CALLS[name].right(nowhere)
    before = contents(tmp_path)
    with pytest.raises(bad.error) as caught:
        function(**given | {parameter: bad.value})  # generators, too, check when they are called
    assert type(caught.value) is bad.error
    assert contents(tmp_path) == before


@pytest.mark.parametrize("function", [blobpack.pack, blobpack.pack_shards, blobpack.append])
def test_an_option_there_is_not_is_named(function: Callable[..., Any], ground: Ground) -> None:
    right, given = CALLS[function.__name__].right(ground)
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) .*'glob'.* globs,"):
        right(**given, glob="*.png")


@pytest.mark.parametrize("function", [blobpack.pack, blobpack.pack_shards, blobpack.append])
def test_shared_options_are_shown_with_types_and_defaults(function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters
    assert PackOptions.__annotations__.keys() == DEFAULTS.keys()
    for name, default in DEFAULTS.items():
        assert parameters[name].default == default
        assert parameters[name].annotation == PackOptions.__annotations__[name].__forward_arg__
        assert f"{name}: " in (function.__doc__ or "")
    assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


@pytest.mark.parametrize(
    "right", [{"facts": np.True_}, {"facts": 0}, {"threads": np.int64(2)}, {"globs": "*.png"}]
)
def test_what_is_as_good_will_do(right: dict[str, Any], ground: Ground) -> None:
    assert blobpack.pack(ground.files, ground.new_tar, **right).members == 2


@pytest.mark.parametrize("row", [-3, 2, 1 << 70])
@pytest.mark.parametrize(
    "method", ["row_of", "_name_at", "_member_at", "_bounds_at", "__getitem__"]
)
def test_a_row_there_is_not_is_an_index_error_as_of_any_sequence(
    row: int, method: str, ground: Ground
) -> None:
    for index in (ground.index, blobpack.Index(ground.index)):
        with pytest.raises(IndexError, match=f"no row {row} among 2"):
            getattr(index, method)(row)


def test_an_index_beside_an_open_blob_is_not_ignored(ground: Ground) -> None:
    with (
        ground.blob as blob,
        pytest.raises(ValueError, match=r"index can.t be combined with an open blob"),
    ):
        blobpack.verify(blob, index=ground.idx)


@pytest.mark.parametrize("path", ["circle", "n" * 300, "blob.tar/below"])
@pytest.mark.parametrize("name", ["pack", "append", "merge", "subset", "repack", "collect"])
def test_a_path_where_no_file_can_be_is_an_error_of_ours(
    name: str, path: str, ground: Ground, tmp_path: Path
) -> None:
    """What the system says is no misuse, and no bare OSError."""
    (tmp_path / "circle").symlink_to("circle")
    before = contents(tmp_path)
    function, given = CALLS[name].right(ground)
    target = "blob" if name == "append" else "target"
    with pytest.raises(blobpack.StorageError, match=path[:20]):
        function(**given | {target: path})
    assert contents(tmp_path) == before


def test_too_many_brackets_in_a_list_are_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text("[" * 200_000)
    with pytest.raises(blobpack.FormatError, match="line 1"):
        blobpack.read_manifest(tmp_path / "list.jsonl")
