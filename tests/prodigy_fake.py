"""A fake of Prodigy, which is sold under a licence and is on no public registry.

It stands for the parts of Prodigy 1.10 and later that blobpack's recipes use, as public recipes and plugins use them:

- `prodigy.recipe(name, **arguments)` registers a function; arguments are (help, kind, letter, converter), and the entry
  points of the group `prodigy_recipes` and the files of `-F` are loaded first.
- `prodigy.components.db.connect()` returns the database: here one file of JSON lines, `$PRODIGY_FAKE_DB`.
- `prodigy.set_hashes` hashes what is shown, and keeps hashes that a task has.
- The controller pulls the stream batch by batch, drops tasks whose hash is in the dataset or in an excluded one, sends each
  task as JSON, and passes answers to `before_db`, the database, and `progress`.

It has no web server: `Session.answer` is the annotator. `python tests/prodigy_fake.py RECIPE …` parses a command line as
`prodigy RECIPE …` does, accepts `$PRODIGY_FAKE_ANSWERS` tasks, and prints what was shown as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import runpy
import sys
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BATCH_SIZE = 4  # Prodigy's own is 10
INPUT_HASH_KEYS = ("text", "image", "html", "input")
TASK_HASH_KEYS = ("spans", "label", "options", "arcs")
COMPONENTS = {
    *("dataset", "view_id", "stream", "before_db", "update", "progress", "on_load", "on_exit"),
    *("validate_answer", "exclude", "db", "get_session_id", "session_factory", "task_router"),
    *("event_hooks", "config"),
}
RECIPES: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {}


class Database:
    """Datasets of examples, in one file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _rows(self) -> list[tuple[str, dict[str, Any]]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [tuple(json.loads(line)) for line in lines]

    def __contains__(self, name: object) -> bool:
        return any(dataset == name for dataset, _ in self._rows())

    def get_dataset_examples(self, name: str) -> list[dict[str, Any]]:
        return [example for dataset, example in self._rows() if dataset == name]

    def get_input_hashes(self, *names: str) -> set[int]:
        return {example["_input_hash"] for name, example in self._rows() if name in names}

    def get_task_hashes(self, *names: str) -> set[int]:
        return {example["_task_hash"] for name, example in self._rows() if name in names}

    def add_examples(self, examples: Iterable[dict[str, Any]], datasets: Iterable[str]) -> None:
        examples = list(examples)
        with self.path.open("a") as file:
            for name in datasets:
                file.writelines(json.dumps([name, example]) + "\n" for example in examples)


def connect() -> Database:
    return Database(Path(os.environ["PRODIGY_FAKE_DB"]))


def recipe(name: str, **arguments: Any) -> Callable[..., Any]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        RECIPES[name] = function, arguments
        return function

    return register


def set_hashes(task: dict[str, Any], *, overwrite: bool = False) -> dict[str, Any]:
    """Hash what is shown, as Prodigy does: of an image, the whole data URI or URL."""

    def hashed(keys: Iterable[str], before: str = "") -> int:
        text = before + json.dumps([task[key] for key in keys if key in task])
        return int.from_bytes(hashlib.md5(text.encode()).digest()[:4], "big", signed=True)

    new = {"_input_hash": hashed(INPUT_HASH_KEYS)}
    new["_task_hash"] = hashed(TASK_HASH_KEYS, str(new["_input_hash"]))
    return task | new if overwrite else new | task


class Session:
    """A run of Prodigy's server, from the start to Ctrl-C."""

    def __init__(self, components: dict[str, Any]) -> None:
        assert components.keys() <= COMPONENTS, components.keys()
        self._components = components
        self._config = components.get("config", {})
        self._db, self._dataset = connect(), components["dataset"]
        names = [self._dataset, *(components.get("exclude") or ())]
        self._by = f"_{self._config.get('exclude_by', 'task')}_hash"
        read = {"_input_hash": self._db.get_input_hashes, "_task_hash": self._db.get_task_hashes}
        self._seen = read[self._by](*names)
        self._stream = iter(components["stream"])
        self.view_id = components["view_id"]
        self.progress: float | None = None

    @property
    def total_annotated(self) -> int:
        """Number of examples in the dataset, as recipes ask the controller for it."""
        return len(self._db.get_dataset_examples(self._dataset))

    def batch(self, size: int = BATCH_SIZE) -> list[dict[str, Any]]:
        """Return what the browser gets next."""
        found: list[dict[str, Any]] = []
        for task in self._stream:
            task = set_hashes(task)
            if task[self._by] not in self._seen:
                self._seen.add(task[self._by])
                found.append(json.loads(json.dumps(task)))
            if len(found) == size:
                break
        return found

    def answer(self, examples: Iterable[dict[str, Any]], answer: str = "accept") -> None:
        """Store answers, as the browser sends them."""
        answers = [example | {"answer": answer} for example in examples]
        before_db = self._components.get("before_db")
        stored = before_db(answers) if before_db else answers
        self._db.add_examples(stored, [self._dataset])
        if progress := self._components.get("progress"):
            self.progress = progress(self, None)

    def close(self) -> None:
        if on_exit := self._components.get("on_exit"):
            on_exit(self)


def parsed(argv: list[str]) -> dict[str, Any]:
    """Parse a command line as Prodigy does, and call its recipe."""
    loaded = argparse.ArgumentParser(add_help=False)
    loaded.add_argument("-F")
    files, argv = loaded.parse_known_args(argv)
    if files.F:
        runpy.run_path(files.F)
    else:
        for point in entry_points(group="prodigy_recipes"):
            point.load()
    function, arguments = RECIPES[argv[0]]
    defaults = dict(
        zip(
            reversed(function.__code__.co_varnames[: function.__code__.co_argcount]),
            reversed(function.__defaults__ or ()),
            strict=False,
        )
    )
    parser = argparse.ArgumentParser(prog=f"prodigy {argv[0]}")
    for name, (description, kind, letter, convert) in arguments.items():
        option = [f"--{name.replace('_', '-')}", *([f"-{letter}"] if letter else [])]
        default = defaults.get(name)
        if kind == "positional":
            count = {"nargs": "?"} if name in defaults else {}
            parser.add_argument(name, type=convert, help=description, default=default, **count)
        elif kind == "flag":
            parser.add_argument(*option, action="store_true", help=description)
        else:
            parser.add_argument(*option, type=convert, help=description, default=default)
    return function(**vars(parser.parse_args(argv[1:])))


def modules() -> dict[str, ModuleType]:
    """Return the modules that stand for Prodigy, for `sys.modules`."""
    names = ("prodigy", "prodigy.components", "prodigy.components.db", "prodigy.util")
    made = {name: ModuleType(name) for name in names}
    made["prodigy"].recipe = recipe  # type: ignore[attr-defined]
    made["prodigy"].set_hashes = set_hashes  # type: ignore[attr-defined]
    made["prodigy"].is_fake = True  # type: ignore[attr-defined]
    made["prodigy.components.db"].connect = connect  # type: ignore[attr-defined]
    made["prodigy.util"].set_hashes = set_hashes  # type: ignore[attr-defined]
    return made


def environment(folder: Path) -> dict[str, str]:
    """Return the settings of the fake, and of the cache folder that recipes use, for files in a folder."""
    return {
        "PRODIGY_FAKE_DB": str(folder / "prodigy.jsonl"),
        "XDG_CACHE_HOME": str(folder / ".cache"),
    }


def install_command(folder: Path) -> None:
    """Make a command `prodigy` in a folder, which runs this file."""
    folder.mkdir()
    command = folder / "prodigy"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    command.chmod(0o755)


if __name__ == "__main__":
    sys.modules |= modules()
    session = Session(parsed(sys.argv[1:]))
    shown = list(islice(session.batch(int(os.environ.get("PRODIGY_FAKE_ANSWERS", "4"))), 100))
    session.answer(shown)
    session.close()
    print(json.dumps({"view_id": session.view_id, "progress": session.progress, "shown": shown}))
