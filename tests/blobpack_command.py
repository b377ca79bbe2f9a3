"""The command `blobpack`, run as a user types it, and command lines for all of its parameters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import jsonschema

from blobpack.cli.groups import all_commands
from blobpack.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = str(Path(sys.executable).with_name("blobpack"))
SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "schema.json").read_text())


def run(
    *arguments: object, folder: Path | None = None, code: int = 0, **env: str
) -> tuple[str, str]:
    """Run the command in a folder, check that it ends with this code, and return its output and its messages."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def as_json(out: str) -> Any:
    """Return the value of an output in JSON, which has the form that docs/schema.json describes."""
    found = json.loads(out)
    jsonschema.validate(found, SCHEMA, cls=jsonschema.Draft202012Validator)
    return found


def command_line(
    command: str, parameter: click.Parameter, value: str, others: Mapping[str, str]
) -> list[str]:
    """Return the arguments of a command with a value for one parameter; others: values of required parameters."""
    line = command.split()
    for each in all_commands(main)[command].params:
        if isinstance(each, click.Argument):
            line.append(value if each is parameter else others[str(each.name)])
        elif each is parameter:
            line += [each.opts[-1], value]
        elif each.required and each.name in others:
            line += [each.opts[-1], others[each.name]]
    return line
