"""The program `blobpack`: its commands, and what holds for all of them: output, errors, exit codes.

Strategy: results go to stdout; progress, warnings and errors to stderr. The library raises; only here an exception becomes
a message and an exit code: 0 for success, 1 for a BlobpackError or an error of the system, 2 for wrong usage (click's
UsageError), 128 plus its number for a signal, as a shell reports it.
"""

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
    """The commands. It prints a BlobpackError as one line on stderr, with exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and translate its exceptions into messages and exit codes."""
        # A member's name may be any bytes. Python decodes those that are not UTF-8 to surrogates (PEP 383), which a
        # strict stream refuses to print; this one prints the bytes as they are. What stands in for a stream, in a
        # notebook, say, may not be a TextIOWrapper, and can't be reconfigured.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="surrogateescape")
        # Python's own format shows a line of blobpack's source, which says nothing to a user of the command
        warnings.showwarning = show_note
        try:
            with unwound_by_signals():
                return super().invoke(ctx)
        # SIGTERM and SIGHUP arrive as SystemExit. What was left behind, such as an upload to resume, is in the notes.
        except (KeyboardInterrupt, SystemExit) as exc:
            for note in notes_of(exc):
                click.echo(note, err=True)
            if isinstance(exc, SystemExit):
                raise
            # click would exit with 1 after Ctrl-C; a script recognises an interrupt by 130
            click.echo("Aborted!", err=True)
            raise SystemExit(KILLED + signal.SIGINT) from exc
        # before OSError, because a StorageError is one, too
        except BlobpackError as exc:
            raise click.ClickException("\n".join([str(exc), *notes_of(exc)])) from exc
        except OSError as exc:
            # the reader of a pipe has ended, as `| head` does: click ends the command without a message
            if exc.errno == errno.EPIPE:
                raise
            discard_output()
            raise click.ClickException(str(exc)) from exc


def notes_of(exc: BaseException) -> list[str]:
    """Return the notes that were added to an exception (PEP 678), such as what an upload has left behind."""
    return getattr(exc, "__notes__", [])


def show_note(message: Warning | str, *where: object, **more: object) -> None:
    """Print a warning as one line on stderr."""
    click.echo(f"Note: {message}", err=True)


def discard_output() -> None:
    """Redirect stdout to the null device."""
    # What could not be written (to a full disk, say) is still in Python's buffer. Python would flush it again at exit,
    # fail again, print a second message, and change the exit code to 120.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@click.group(
    cls=BlobpackGroup,
    # click has no -h by itself, and cuts help at 80 columns, even if the terminal is wider
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 for success, 1 for an error, 2 for wrong usage, 128 plus its number if a signal ended the "
    "command (Ctrl-C: 130). Shell completion: "
    'eval "$(_BLOBPACK_COMPLETE=bash_source blobpack)", or zsh_source, or fish_source.',
)
@click.version_option(package_name="blobpack", message="%(prog)s %(version)s")
def main() -> None:
    """Pack millions of small images into one tar, and read any of them with one ranged GET.

    A BLOB is such a tar: a path, or a file://, s3://bucket/key or http(s):// URL. Its members are the files in it.
    `blobpack COMMAND --help` describes a command.

    \b
    blobpack pack imgs/ out.tar
    blobpack offsets out.tar --filter '*.jpg'
    blobpack cat out.tar cats/0001.jpg > cat.jpg
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
    # --stats belongs to every command: any of them may read from S3
    main.add_command(stats_options(command))
