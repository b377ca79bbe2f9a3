"""A hook of MkDocs: it writes the command line reference from the click commands, each time the site is built."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import click

from blobpack.cli.groups import all_commands
from blobpack.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.structure.pages import Page

PLACEHOLDER = "<!-- the commands -->"


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Replace the placeholder in cli.md by the reference.

    Raises:
        ValueError: cli.md has no placeholder.
    """
    if page.file.src_uri != "cli.md":
        return markdown
    if PLACEHOLDER not in markdown:
        raise ValueError(f"cli.md has no line {PLACEHOLDER}")
    return markdown.replace(PLACEHOLDER, "\n".join(command_lines()))


def command_lines() -> Iterator[str]:
    """Yield the lines of the reference: a section for each command."""
    for name, command in sorted(all_commands(main).items()):
        context = click.Context(command, info_name=f"blobpack {name}")
        yield f"## {name}\n"
        for paragraph in paragraphs(command):
            if is_example(paragraph):
                yield "```sh\n" + paragraph.lstrip("\b\n") + "\n```\n"
            else:
                yield f"{escaped(' '.join(paragraph.split()))}\n"
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"```text\nblobpack {name} {usage}\n```\n"
        yield "| option | what it does |\n|---|---|"
        for parameter in command.get_params(context):
            option, text = parameter.get_help_record(context) or ("", "")
            if text:
                yield f"| {code(option)} | {escaped(text)} |"
        yield ""


def paragraphs(command: click.Command) -> list[str]:
    """Split the help of a command into paragraphs.

    A paragraph that begins with a backspace must not be filled: that is how click marks examples.
    """
    return [part.strip() for part in inspect.cleandoc(command.help or "").split("\n\n")]


def is_example(paragraph: str) -> bool:
    """Return whether a paragraph holds commands to try."""
    return paragraph.lstrip("\b\n").startswith("blobpack ")


def examples(command: click.Command) -> list[str]:
    """List the example commands in the help of a command."""
    return [
        line
        for paragraph in paragraphs(command)
        if is_example(paragraph)
        for line in paragraph.lstrip("\b\n").splitlines()
    ]


def code(text: str) -> str:
    """Mark a text as code, for a cell of a table."""
    return f"`{text}`"


def escaped(text: str) -> str:
    """Escape what Markdown would read as emphasis, as a link, as a tag or as the end of a cell."""
    for character in "\\*_|[":
        text = text.replace(character, f"\\{character}")
    return text.replace("<", "&lt;")
