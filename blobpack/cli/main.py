"""The program `blobpack`: its commands, and the output, errors and exit codes that they share.

Strategy: results go to stdout; progress, warnings and errors to stderr. The library raises; only here an exception becomes
a message and an exit code: 0 for success, 1 for a BlobpackError or an error of the system, 2 for wrong usage (click's
UsageError), 128 plus its number for a signal, as a shell reports it.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from blobpack.cli.commands.append import append
from blobpack.cli.commands.cat import cat
from blobpack.cli.commands.collect import collect
from blobpack.cli.commands.cors import cors
from blobpack.cli.commands.encord import encord
from blobpack.cli.commands.export import export
from blobpack.cli.commands.extract import extract
from blobpack.cli.commands.gallery import gallery
from blobpack.cli.commands.index import index
from blobpack.cli.commands.info import info
from blobpack.cli.commands.ls import ls
from blobpack.cli.commands.merge import merge
from blobpack.cli.commands.offsets import offsets
from blobpack.cli.commands.pack import pack
from blobpack.cli.commands.pixano import pixano
from blobpack.cli.commands.repack import repack
from blobpack.cli.commands.serve import serve
from blobpack.cli.commands.subset import subset
from blobpack.cli.commands.supervisely import supervisely
from blobpack.cli.commands.token import token
from blobpack.cli.commands.uploads import uploads
from blobpack.cli.commands.verify import verify
from blobpack.cli.groups import CommandGroup, all_commands
from blobpack.cli.options import stats_options
from blobpack.cli.printing import quiet_option
from blobpack.cli.signals import KILLED, Signals
from blobpack.errors import BlobpackError, LeftOutWarning
from blobpack.model import without_secrets
from blobpack.quoting import message_of, one_line, printable
from blobpack.wording import spelled_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


COMPLETE = "_BLOBPACK_COMPLETE"
# argument of the library → its option, where that has another name
OPTIONS = {"target": "-o", "member_bytes_max": "--max-member", "index": "--index-file"}


class BlobpackGroup(CommandGroup):
    """The commands; it translates their exceptions into messages and exit codes."""

    def main(self, *arguments: Any, standalone_mode: bool = True, **more: Any) -> Any:
        """Run a command line, and end the process with its exit code.

        Args:
            arguments: As for click's own main.
            standalone_mode: False runs the command line like a function: exceptions are left to the caller.
            more: As for click's own main.
        """
        # a shell asks for completions: see click's documentation of this variable
        if COMPLETE in os.environ:
            from blobpack.cli.completion.shells import register

            register()
        run = partial(super().main, *arguments, standalone_mode=False, **more)
        if not standalone_mode:
            return run()
        open_missing_streams()
        # A member's name may be any bytes. Python decodes those that are not UTF-8 to surrogates (PEP 383), which a
        # strict stream refuses to print; this one prints the bytes as they are. What stands in for a stream, in a
        # notebook, say, may not be a TextIOWrapper, and can't be reconfigured.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="surrogateescape")
        # Python's own format shows a line of blobpack's source, which says nothing to a user of the command
        warnings.showwarning = show_note
        # whatever PYTHONWARNINGS says: it is part of the command's report
        warnings.simplefilter("always", LeftOutWarning)
        with spelled_by(self.spelling):
            sys.exit(exit_code(run))

    def spelling(self, name: str, value: object) -> str:
        """Return how the command that runs passes an argument of the library; see wording.setting."""
        option = as_option(name, value)
        return "" if name == "stale" and option not in self.options else option

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        """Parse a command line; --help prints here."""
        with ended_by_closed_pipe():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with ended_by_closed_pipe():
            return super().invoke(ctx)


def as_option(name: str, value: object) -> str:
    """Return how the command line passes an argument of the library, such as --force for force=True."""
    # to scan instead of using a stale index is called so there
    if name == "stale":
        name, value = "rescan", True
    option = OPTIONS.get(name) or f"--{name.replace('_', '-')}"
    return option if value is True or value is ... else f"{option} {value}"


@contextmanager
def ended_by_closed_pipe() -> Iterator[None]:
    """End the command if the reader of its output has ended, as `| head` does."""
    # inside of click's main, which would exit with 1
    try:
        yield
        # at exit, Python's own flush would fail outside of all handling
        sys.stdout.flush()
    except BrokenPipeError as exc:
        discard_output()
        raise SystemExit(KILLED + signal.SIGPIPE) from exc


def exit_code(run: Callable[[], object]) -> int:
    """Run a command, print what went wrong, and return the exit code."""
    signals = Signals()
    try:
        with signals.raised():
            result = run()
    # BaseException: an error while files are removed may have taken the place of a signal's exception
    except BaseException as exc:
        return ended_by(signals.arrived, exc) if signals.arrived else failed(exc)
    # a signal whose exception was dropped until the command was done
    return (
        KILLED + signals.arrived if signals.arrived else (result if isinstance(result, int) else 0)
    )


def ended_by(number: int, exc: BaseException) -> int:
    """Print what a signal has left behind, and return the exit code."""
    # what was left behind, such as an upload to resume, is in the notes
    for note in notes_of(exc):
        click.echo(note, err=True)
    if number == signal.SIGINT:
        click.echo("Aborted!", err=True)
    discard_output()
    return KILLED + number


def failed(exc: BaseException) -> int:
    """Print the message of an exception, and return the exit code; an exception that is a bug is raised again."""
    if isinstance(exc, click.ClickException):
        # With its newlines, because the message may be a whole help page. It may repeat an argument, such as a URL with a
        # signature.
        exc.message = printable(without_secrets(exc.message))  # type: ignore[misc]  # final, but click reads it later
        exc.show()
        return exc.exit_code
    # before OSError, because a StorageError is one, too
    if isinstance(exc, BlobpackError):
        message = "\n".join([message_of(exc), *notes_of(exc)])
    elif isinstance(exc, MemoryError):
        message = "there is not enough memory"
    elif isinstance(exc, OSError):
        discard_output()
        message = message_of(exc)
    else:
        raise exc
    click.echo(f"Error: {message}", err=True)
    return 1


def notes_of(exc: BaseException) -> list[str]:
    """Return the notes that were added to an exception (PEP 678), such as what an upload has left behind."""
    return list(map(one_line, getattr(exc, "__notes__", [])))


def show_note(message: Warning | str, *where: object, **more: object) -> None:
    """Print a warning as one line on stderr."""
    click.echo(f"Note: {one_line(str(message))}", err=True)


def open_missing_streams() -> None:
    """Open streams for stdout and stderr if the process was started without them, as by `>&-`."""
    # Python sets such a stream to None. Besides, the next file that is opened would get its number, and messages would be
    # written to that file. So the null device takes the number. Opened for reading only, it makes every write to stdout
    # fail, as if the stream were closed; messages on stderr are lost.
    for number, name, flags in ((1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, flags)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "w"))  # noqa: PTH123, SIM115 (a descriptor, which stays open)


def discard_output() -> None:
    """Redirect stdout to the null device."""
    # What could not be written (to a full disk, say) is still in Python's buffer. Python would flush it again at exit,
    # fail again, print a second message, and change the exit code to 120.
    # A stream that stands in for stdout has no descriptor.
    with suppress(io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@click.group(
    cls=BlobpackGroup,
    # click has no -h by itself, and cuts help at 80 columns, even if the terminal is wider
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 for success, 1 for an error, 2 for wrong usage, 128 plus its number if a signal ended the "
    "command (Ctrl-C: 130). For completion by the Tab key, put this into ~/.bashrc: "
    'eval "$(_BLOBPACK_COMPLETE=bash_source blobpack)"; zsh and fish have lines of their own, see the documentation.',
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
    cors,
    encord,
    export,
    extract,
    gallery,
    index,
    info,
    ls,
    merge,
    offsets,
    pack,
    pixano,
    repack,
    serve,
    subset,
    token,
    supervisely,
    uploads,
    verify,
):
    main.add_command(command)
# these options belong to every command: any of them may read from S3, and print notes
for command in all_commands(main).values():
    quiet_option(stats_options(command))
