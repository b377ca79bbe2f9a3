"""Arguments and options that several commands share.

Each function decorates a command. A help text says what its option does, in one or two sentences.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, TypeVar, get_args

import click

from blobpack.cli.params import (
    BlobUrl,
    ByteSize,
    LocalFile,
    LocalPath,
    PathOrUrl,
    Place,
    Prices,
    Regex,
    Whole,
)
from blobpack.model import THREADS_ASKED_MAX, Duplicates
from blobpack.stores.stats import USD_PER_1000_GETS, USD_PER_1000_PUTS, stats

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.gateway.tokens import Keys


F = TypeVar("F", bound="Callable[..., Any]")

# the key of the prices in click's Context.meta, which all extensions share: hence the prefix
PRICES = "blobpack.prices"
PORT_MAX = 65535


def blob_argument(command: F) -> F:
    """Add the argument BLOB."""
    # no check here that a file exists: the library raises one error for paths and URLs, with exit code 1
    return click.argument("blob", type=BlobUrl(prefix=True))(command)


def index_option(command: F) -> F:
    """Add the option for the index of BLOB."""
    return click.option(
        "--index-file",
        "index_path",
        # An index need not lie beside its blob: for a blob behind HTTP, it may be on this disk.
        type=PathOrUrl(dir_okay=False),
        metavar="FILE",
        help="Read the members from this index or offsets file, or from the index of another program.  [default: the index "
        "inside BLOB or beside it]",
    )(command)


def rescan_option(command: F) -> F:
    """Add the options to ignore any index; the parameter is a Rescan, or None."""
    command = click.option(
        "--concatenated",
        "rescan",
        flag_value="concatenated",
        help="Like --rescan, and continue behind end-of-archive markers, for tars that were joined by cat.",
    )(command)
    return click.option(
        "--rescan",
        "rescan",
        flag_value="archive",
        help="Ignore any index, and scan the headers of BLOB.",
    )(command)


def concatenated_option(command: F) -> F:
    """Add the option for tars that were joined by cat, for commands that have no --rescan."""
    return click.option(
        "--concatenated",
        is_flag=True,
        help="Ignore any index, and scan behind end-of-archive markers, too, for tars that were joined by cat.",
    )(command)


def allow_option(command: F) -> F:
    """Add the option for the places of a collection's blobs."""
    return click.option(
        "--allow",
        multiple=True,
        metavar="PLACE",
        type=Place(),
        help="If BLOB is a collection: also read blobs in this folder, below this s3:// or http(s):// prefix, or on this "
        "host. Repeatable.  [default: only the collection's own folder or prefix]",
    )(command)


def apple_double_option(command: F) -> F:
    """Add the option to keep AppleDouble files."""
    return click.option(
        "--apple-double",
        is_flag=True,
        help="Do not leave out the AppleDouble files of macOS, whose names begin with `._`.",
    )(command)


def stats_options(command: F) -> F:
    """Add the options --stats and --prices, which print what the requests to S3 and HTTP have cost."""

    def print_at_end(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
        def show() -> None:
            total = stats()
            # read at the end, because click may call keep() for --prices after this callback
            cost_usd = total.cost_usd(*ctx.meta[PRICES])
            click.echo(f"stats: {total.described(cost_usd)}", err=True)

        # on close and not after the command: a command that fails has cost requests, too
        if wanted:
            ctx.call_on_close(show)

    def keep(ctx: click.Context, param: click.Parameter, prices: tuple[float, float]) -> None:
        ctx.meta[PRICES] = prices

    command = click.option(
        "--stats",
        is_flag=True,
        # handled here alone, so that no command needs a parameter for it
        expose_value=False,
        callback=print_at_end,
        help="At the end, print to stderr the requests made to S3 and HTTP, the bytes read, and about what they cost.",
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
        help="Prices for --stats, in dollars per 1,000 requests: GET for those that read, "
        "PUT for those that write, copy or list.",
    )(command)


def cache_option(command: F) -> F:
    """Add the options for a cache on disk."""
    command = click.option(
        "--cache-bytes",
        type=ByteSize(),
        metavar="BYTES",
        default=10 << 30,
        # click would show 10737418240
        show_default="10Gi",
        help="Largest size of the --cache folder. The least recently used files are removed first.",
    )(command)
    return click.option(
        "--cache",
        type=LocalPath(file_okay=False),
        metavar="DIR",
        help="Keep the bytes read from a remote blob in this folder, so that they are not requested again.",
    )(command)


def keys_option(command: F) -> F:
    """Add the option for the key pairs of `blobpack serve`; the parameter is a Keys."""

    def load(ctx: click.Context, param: click.Parameter, file: IO[str] | None) -> Keys:
        # imported here: no other command needs them
        from blobpack.gateway.tokens import keys_in_environment, read_keys

        try:
            if file is None:
                return keys_in_environment()
            with file:
                return read_keys(file.read())
        # its message holds no secret
        except ValueError as exc:
            raise click.BadParameter(str(exc), ctx, param) from exc

    return click.option(
        "--keys",
        type=LocalFile("r"),
        callback=load,
        metavar="FILE",
        help="Read key pairs from this file, ACCESS_KEY:SECRET_KEY, one a line. Tokens are made with the first one.  "
        "[default: BLOBPACK_SERVE_ACCESS_KEY and BLOBPACK_SERVE_SECRET_KEY]",
    )(command)


def listen_options(port: int) -> Callable[[F], F]:
    """Add the options of a server for its address and port.

    Args:
        port: The port by default.
    """
    host_option = click.option(
        "--host", default="127.0.0.1", show_default=True, help="Listen on this address."
    )
    port_option = click.option(
        "--port",
        type=Whole(0, PORT_MAX),
        metavar="N",
        default=port,
        show_default=True,
        help="Listen on this port; 0 takes a free one.",
    )
    return lambda command: host_option(port_option(command))


def threads_option(most: str) -> Callable[[F], F]:
    """Return a decorator that adds the option for the number of threads.

    Args:
        most: How many threads are the default.
    """
    return click.option(
        "--threads",
        # Native code starts no more threads than this, and would silently ignore a larger number.
        type=Whole(1, THREADS_ASKED_MAX),
        metavar="N",
        help=f"Number of threads that read.  [default: {most}]",
    )


def duplicates_option(help_text: str) -> Callable[[F], F]:
    """Return a decorator that adds the option for members of the same name."""
    return click.option(
        "--duplicates",
        type=click.Choice(get_args(Duplicates)),
        default="refuse",
        show_default=True,
        help=help_text,
    )


def json_option(command: F) -> F:
    """Add the option for a report in JSON."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print the report as one JSON object."
    )(command)


def force_option(command: F) -> F:
    """Add the option to replace any file."""
    return click.option(
        "--force",
        is_flag=True,
        help="Replace a file of any kind, and allow any suffix. Otherwise only a file of the kind that is written is "
        "replaced.",
    )(command)


def empty_option(command: F) -> F:
    """Add the option to write a blob without members."""
    return click.option(
        "--allow-empty",
        is_flag=True,
        help="Write a blob without members if there are none, instead of failing.",
    )(command)


# a constant and not inline: pack and append share these, in this order in their help
PACKING = (
    click.option(
        "--filter",
        "globs",
        multiple=True,
        metavar="GLOB",
        help='Pack only files whose member names match GLOB, in which * also matches "/". Repeatable: one match '
        "suffices.",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="GLOB",
        help="Leave out files whose member names match GLOB. Repeatable.",
    ),
    click.option("--all", "all_files", is_flag=True, help="Pack every file, not only images."),
    click.option(
        "--hidden", is_flag=True, help="Also pack files and folders whose names begin with a dot."
    ),
    click.option(
        "--follow-symlinks",
        is_flag=True,
        help="Also pack the files that symbolic links point to, under the names of the links.",
    ),
    click.option(
        "--keep-mtime",
        is_flag=True,
        help="Store modification times, in whole seconds; otherwise 0.",
    ),
    click.option(
        "--facts/--no-facts",
        default=True,
        show_default=True,
        help="Record media type, width and height as shown, CRC-32C and modification time in the index.",
    ),
    threads_option("one for each processor, up to 4"),
)


def packing_options(command: F) -> F:
    """Add the options for what is packed, and how."""
    # Reversed, because click shows the option that was applied last at the top, as with decorators
    # in a source file.
    for option in reversed(PACKING):
        command = option(command)
    return command


SELECTION = (
    click.option(
        "--filter",
        "globs",
        multiple=True,
        metavar="GLOB",
        help='Only members whose names match GLOB, in which * also matches "/". Repeatable: one match suffices.',
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="GLOB",
        help="No members whose names match GLOB. Repeatable.",
    ),
    click.option(
        "--regex",
        type=Regex(),
        help="Only members in whose names this regular expression is found.",
    ),
    click.option(
        "--min-size",
        type=ByteSize(),
        metavar="BYTES",
        help="Only payloads of at least this size: 4k is 4,000 bytes, 4Ki is 4,096; also M, Mi, G and Gi.",
    ),
    click.option(
        "--max-size", type=ByteSize(), metavar="BYTES", help="Only payloads of at most this size."
    ),
    click.option(
        "--media-type",
        "media_types",
        multiple=True,
        metavar="TYPE",
        help="Only payloads of this type, such as image/png or 'image/*'. Repeatable: one match suffices.",
    ),
    *(
        click.option(
            f"--{limit}-{side}",
            type=Whole(0),
            metavar="PIXELS",
            help=f"Only images of at {most} this {side}, as shown.",
        )
        for side in ("width", "height")
        for limit, most in (("min", "least"), ("max", "most"))
    ),
    click.option(
        "--names-from",
        # as bytes, because names need not be UTF-8; click opens "-" as stdin
        type=LocalFile("rb"),
        metavar="FILE",
        help="Only members named in this file, one name on each line; - reads stdin.",
    ),
)


def selection_options(command: F) -> F:
    """Add the options that select members."""
    for option in reversed(SELECTION):
        command = option(command)
    return command
