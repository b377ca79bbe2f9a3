"""`blobpack`: the group of commands, and what they all do alike."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import warnings
from typing import Any

import click

from blobpack.cli.commands.append import append
from blobpack.cli.commands.cat import cat
from blobpack.cli.commands.collect import collect
from blobpack.cli.commands.extract import extract
from blobpack.cli.commands.index import index
from blobpack.cli.commands.info import info
from blobpack.cli.commands.ls import ls
from blobpack.cli.commands.merge import merge
from blobpack.cli.commands.offsets import offsets
from blobpack.cli.commands.pack import pack
from blobpack.cli.commands.repack import repack
from blobpack.cli.commands.subset import subset
from blobpack.cli.commands.uploads import uploads
from blobpack.cli.commands.verify import verify
from blobpack.cli.options import stats_options
from blobpack.cli.signals import KILLED, unwound_by_signals
from blobpack.errors import BlobpackError


class BlobpackGroup(click.Group):
    """Commands whose blobpack errors end in one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and translate its errors; names that are not UTF-8 are printed as they are."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="surrogateescape")
        warnings.showwarning = show_note
        try:
            with unwound_by_signals():
                return super().invoke(ctx)
        except (KeyboardInterrupt, SystemExit) as exc:
            for note in notes_of(exc):
                click.echo(note, err=True)
            if isinstance(exc, SystemExit):
                raise
            click.echo("Aborted!", err=True)
            raise SystemExit(KILLED + signal.SIGINT) from exc
        except BlobpackError as exc:
            raise click.ClickException("\n".join([str(exc), *notes_of(exc)])) from exc
        except OSError as exc:
            if exc.errno == errno.EPIPE:  # `| head` has seen enough: click's own matter
                raise
            discard_output()
            raise click.ClickException(str(exc)) from exc


def notes_of(exc: BaseException) -> list[str]:
    """Find what is said beside the error: what is left behind, say."""
    return getattr(exc, "__notes__", [])


def show_note(message: Warning | str, *where: object, **more: object) -> None:
    """Print a warning as one line."""
    click.echo(f"Note: {message}", err=True)


def discard_output() -> None:
    """Lead stdout to nowhere: what could not be written would fail again when Python exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@click.group(
    cls=BlobpackGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 an error, 2 wrong usage; 128 and its number after a signal. Shell completion: "
    'eval "$(_BLOBPACK_COMPLETE=bash_source blobpack)" (or zsh_source, fish_source).',
)
@click.version_option(package_name="blobpack", message="%(prog)s %(version)s")
def main() -> None:
    """Pack millions of small images into one tar, and read any of them with one ranged GET.

    \b
    blobpack pack imgs/ out.tar
    blobpack offsets out.tar --filter '*.jpg'
    blobpack cat out.tar cats/0001.jpg > cat.jpg

    A BLOB is a path, or a file://, s3://bucket/key or http(s):// URL.
    """


for command in (
    append,
    cat,
    collect,
    extract,
    index,
    info,
    ls,
    merge,
    offsets,
    pack,
    repack,
    subset,
    uploads,
    verify,
):
    main.add_command(stats_options(command))
