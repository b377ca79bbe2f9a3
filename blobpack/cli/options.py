"""Arguments and options that several commands share."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from fractions import Fraction
from math import inf
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from blobpack.collection.collection import Collection, open_collection
from blobpack.collection.list_blobs import has_glob
from blobpack.errors import BlobpackError
from blobpack.reading.blob import Blob, open_blob
from blobpack.stores.location import is_local, is_s3, local_name, scheme_of
from blobpack.stores.stats import USD_PER_1000_GETS, USD_PER_1000_PUTS, stats
from blobpack.tar.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tqdm import tqdm

    from blobpack.index.index import Index


F = TypeVar("F", bound="Callable[..., Any]")

SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>(?:[kmg]i?)?)b?", re.IGNORECASE)
PRICES = "blobpack.prices"  # where a command's context keeps them
UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class BlobUrl(click.ParamType[str]):
    """A path or a URL of a kind that blobpack reads."""

    name = "blob"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse URLs of other kinds as wrong usage."""
        try:
            local_name(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        return value


class PathOrS3(click.Path):
    """A path, as click.Path, or an s3:// URL."""

    def __init__(self, *, prefix: bool = False, **options: Any) -> None:
        """Say what may be given.

        Args:
            prefix: Also a bucket, or a prefix in it.
            options: Of click.Path.
        """
        super().__init__(**options)
        self._prefix = prefix

    def convert(  # type: ignore[override]
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Refuse an URL that names no object, or no bucket, as wrong usage."""
        if not is_s3(value):
            return str(super().convert(value, param, ctx))
        try:
            scheme_of(f"{value.rstrip('/')}/*" if self._prefix else value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        return value


class Regex(click.ParamType[re.Pattern[str]]):
    """A regular expression of Python's."""

    name = "regex"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> re.Pattern[str]:
        """Refuse what is none as wrong usage."""
        try:
            return re.compile(value)
        except re.error as exc:
            self.fail(f"{value!r}: {exc}", param, ctx)


class ByteSize(click.ParamType[int]):
    """A number of bytes, such as 500, 4k or 1.5Mi."""

    name = "bytes"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Refuse what is no whole number of bytes as wrong usage."""
        written = SIZE.fullmatch(str(value).strip())
        if written is None:
            self.fail(f"{value!r} is no size: 500, 4k, 1.5M or 64Ki are", param, ctx)
        size = Fraction(written["number"]) * UNITS[written["unit"].lower()]
        if size.denominator != 1:
            self.fail(f"{value!r} is not a whole number of bytes", param, ctx)
        return int(size)


class Prices(click.ParamType[tuple[float, float]]):
    """Prices of a thousand requests, such as 0.0004,0.005."""

    name = "prices"

    def convert(
        self,
        value: str | tuple[float, float],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[float, float]:
        """Refuse what is no two prices as wrong usage."""
        if isinstance(value, tuple):
            return value
        try:
            get, put = (float(price) for price in value.split(","))
        except ValueError:
            get = put = -1.0
        if not (0 <= get < inf and 0 <= put < inf):
            self.fail(f"{value!r} is no two prices: 0.0004,0.005 are", param, ctx)
        return get, put


def blob_argument(command: F) -> F:
    """Add the argument that says which blob."""
    return click.argument("blob", type=BlobUrl())(command)


def index_option(command: F) -> F:
    """Add the option that spares the scan."""
    return click.option(
        "--index",
        "index_path",
        type=click.Path(dir_okay=False),
        help="Index or offsets file of the blob.  [default: the one inside the blob or beside it]",
    )(command)


def rescan_option(command: F) -> F:
    """Add the option that does without any index."""
    return click.option(
        "--rescan", is_flag=True, help="Scan the blob's headers, whatever index there is."
    )(command)


def stats_options(command: F) -> F:
    """Add the options that tell, at the end, what was asked of S3 or HTTP."""

    def tell(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
        def show() -> None:
            total = stats()
            cost_usd = total.cost_usd(*ctx.meta[PRICES])
            click.echo(f"stats: {total.described(cost_usd)}", err=True)

        if wanted:
            ctx.call_on_close(show)

    def keep(ctx: click.Context, param: click.Parameter, prices: tuple[float, float]) -> None:
        ctx.meta[PRICES] = prices

    command = click.option(
        "--stats",
        is_flag=True,
        expose_value=False,
        callback=tell,
        help="Print to stderr, at the end, what was asked of S3 or HTTP, and what that costs.",
    )(command)
    return click.option(
        "--prices",
        type=Prices(),
        default=f"{USD_PER_1000_GETS:g},{USD_PER_1000_PUTS:g}",
        show_default=True,
        envvar="BLOBPACK_PRICES",
        show_envvar=True,
        metavar="GET,PUT",
        expose_value=False,
        callback=keep,
        help="For --stats: dollars per 1,000 requests that read, and that write, copy or list.",
    )(command)


def cache_option(command: F) -> F:
    """Add the options that keep on disk what is read of a blob far away."""
    command = click.option(
        "--cache-bytes",
        type=ByteSize(),
        metavar="BYTES",
        default=10 << 30,
        show_default="10Gi",
        help="How much --cache may take.",
    )(command)
    return click.option(
        "--cache",
        type=click.Path(file_okay=False),
        metavar="DIR",
        help="Keep what is read of a blob far away in this folder, for the next time.",
    )(command)


PACKING = (
    click.option(
        "--filter",
        "globs",
        multiple=True,
        metavar="GLOB",
        help="Only names that match; repeatable.",
    ),
    click.option(
        "--exclude", multiple=True, metavar="GLOB", help="No names that match; repeatable."
    ),
    click.option("--all", "all_files", is_flag=True, help="Take every file, not only images."),
    click.option(
        "--hidden", is_flag=True, help="Take files and folders whose names begin with a dot."
    ),
    click.option("--follow-symlinks", is_flag=True, help="Take what symbolic links point at."),
    click.option("--keep-mtime", is_flag=True, help="Store modification times, in whole seconds."),
    click.option(
        "--facts/--no-facts",
        default=True,
        show_default=True,
        help="Take media type, width and height as shown, CRC-32C and mtime into the index.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, 64),
        help="How many read.  [default: processors, up to 4]",
    ),
)


def packing_options(command: F) -> F:
    """Add the options that say what of files and folders is taken, and how."""
    for option in reversed(PACKING):
        command = option(command)
    return command


SELECTION = (
    click.option(
        "--filter",
        "globs",
        multiple=True,
        metavar="GLOB",
        help="Only names that match; repeatable.",
    ),
    click.option(
        "--exclude", multiple=True, metavar="GLOB", help="No names that match; repeatable."
    ),
    click.option("--regex", type=Regex(), help="Only names in which this is found."),
    click.option(
        "--min-size",
        type=ByteSize(),
        metavar="BYTES",
        help="Only payloads of at least this; 4k is 4000 bytes, 4Ki is 4096, and so with M and G.",
    ),
    click.option(
        "--max-size", type=ByteSize(), metavar="BYTES", help="Only payloads of at most this."
    ),
    click.option(
        "--media-type",
        "media_types",
        multiple=True,
        metavar="TYPE",
        help="Only payloads that are this, such as image/png or 'image/*'; repeatable.",
    ),
    *(
        click.option(
            f"--{limit}-{side}",
            type=click.IntRange(0),
            metavar="PIXELS",
            help=f"Only images of at {most} this {side}.",
        )
        for side in ("width", "height")
        for limit, most in (("min", "least"), ("max", "most"))
    ),
    click.option(
        "--names-from",
        type=click.File("rb"),
        metavar="FILE",
        help="Only the names in this file, one a line; - for stdin.",
    ),
)


def selection_options(command: F) -> F:
    """Add the options that choose members."""
    for option in reversed(SELECTION):
        command = option(command)
    return command


def opened_blob(
    blob: str,
    index_path: str | None,
    *,
    rescan: bool,
    cache: str | None = None,
    cache_bytes: int = 10 << 30,
) -> Blob:
    """Open a blob for as long as the command runs."""
    check_cache_bytes(cache_bytes)
    index = scan(blob) if rescan else index_path
    opened = open_blob(blob, index=index, cache=cache, cache_bytes=cache_bytes)
    return click.get_current_context().with_resource(opened)


def opened_source(
    url: str,
    index_path: str | None,
    *,
    rescan: bool,
    cache: str | None = None,
    cache_bytes: int = 10 << 30,
) -> Blob | Collection:
    """Open a blob or a collection for as long as the command runs."""
    if not is_collection(url):
        return opened_blob(url, index_path, rescan=rescan, cache=cache, cache_bytes=cache_bytes)
    if index_path or rescan:
        raise click.UsageError("a collection goes without --index and --rescan")
    check_cache_bytes(cache_bytes)
    opened = open_collection(url, cache=cache, cache_bytes=cache_bytes)
    return click.get_current_context().with_resource(opened)


def check_cache_bytes(cache_bytes: int) -> None:
    """Refuse a cache that could keep nothing."""
    if cache_bytes < 1 << 20:
        raise click.UsageError("--cache-bytes is 1Mi at least")


def is_collection(url: str) -> bool:
    """Tell whether a collection is meant: its file, or the folder, prefix or glob of its blobs."""
    return (
        url.endswith((".idx", "/"))
        or has_glob(url)
        or (is_local(url) and os.path.isdir(local_name(url)))  # noqa: PTH112
    )


def select(
    index: Index,
    *,
    globs: tuple[str, ...],
    exclude: tuple[str, ...],
    regex: re.Pattern[str] | None,
    min_size: int | None,
    max_size: int | None,
    media_types: tuple[str, ...],
    min_width: int | None,
    max_width: int | None,
    min_height: int | None,
    max_height: int | None,
    names_from: IO[bytes] | None,
) -> Index:
    """Choose members by the selection options; names that are not there are counted on stderr."""
    names = read_names(names_from) if names_from else None
    if names is not None:
        missing = [name for name in names if name not in index]
        if missing:
            click.echo(
                f"{len(missing)} of {len(names)} names are not in the blob: {missing[0]!r} …",
                err=True,
            )
    try:
        return index.select(
            *globs,
            exclude=exclude,
            regex=regex,
            names=names,
            min_size=min_size,
            max_size=max_size,
            media_type=media_types or None,
            min_width=min_width,
            max_width=max_width,
            min_height=min_height,
            max_height=max_height,
        )
    except BlobpackError:
        raise
    except ValueError as exc:  # no such media type
        raise click.UsageError(str(exc)) from exc


def read_names(file: IO[bytes]) -> list[str]:
    """Read names, one a line; line ends may be those of Windows, and so may the first bytes."""
    lines = file.read().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [os.fsdecode(name) for line in lines if (name := line.removesuffix(b"\r"))]


def one_source(sources: tuple[str, ...]) -> str | tuple[str, ...]:
    """Take a folder or an S3 prefix that was given alone, or files."""
    wholes = [source for source in sources if is_s3(source) or os.path.isdir(source)]  # noqa: PTH112
    if wholes and len(sources) > 1:
        kind = "a prefix in S3" if is_s3(wholes[0]) else "a folder"
        raise click.UsageError(f"{wholes[0]} is {kind}: give one folder or prefix, or files")
    return sources[0] if wholes else sources


def is_same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Tell whether two paths lead to one file that is there."""
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 (paths of any kind)
    except OSError:
        return False


@contextmanager
def progress_bar(unit: str, total: int | None = None) -> Iterator[tqdm[Any]]:
    """Show progress on stderr, if that is a terminal."""
    from tqdm import tqdm

    with tqdm(
        total=total, unit=unit, unit_scale=True, file=sys.stderr, disable=None, leave=False
    ) as bar:
        yield bar


def show_pieces(bar: tqdm[Any]) -> Callable[[int, int], None]:
    """Make a progress function that shows how many are done, and their bytes."""

    def show(done: int, done_bytes: int) -> None:
        bar.n = done
        bar.set_postfix_str(f"{done_bytes / 1e6:,.0f} MB", refresh=False)
        bar.update(0)

    return show
