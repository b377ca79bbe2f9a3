"""Arguments and options that several commands share."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from blobpack.cli.params import BlobUrl, ByteSize, LocalPath, PathOrUrl, Prices, Regex
from blobpack.model import THREADS_ASKED_MAX, Duplicates
from blobpack.stores.stats import USD_PER_1000_GETS, USD_PER_1000_PUTS, stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tqdm import tqdm


F = TypeVar("F", bound="Callable[..., Any]")

PRICES = "blobpack.prices"  # where a command's context keeps them


def blob_argument(command: F) -> F:
    """Add the argument that says which blob."""
    return click.argument("blob", type=BlobUrl())(command)


def index_option(command: F) -> F:
    """Add the option that spares the scan."""
    return click.option(
        "--index",
        "index_path",
        type=PathOrUrl(dir_okay=False),
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
        type=LocalPath(file_okay=False),
        metavar="DIR",
        help="Keep what is read of a blob far away in this folder, for the next time.",
    )(command)


def duplicates_option(help_text: str) -> Callable[[F], F]:
    """Make the option that says what to do about members of one name."""
    return click.option(
        "--duplicates",
        type=click.Choice(get_args(Duplicates)),
        default="refuse",
        show_default=True,
        help=help_text,
    )


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
        type=click.IntRange(1, THREADS_ASKED_MAX),
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
