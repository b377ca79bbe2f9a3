"""Every server does each step of the life cycle of blobs, or blobpack refuses it in one sentence, as the docs say.

Servers that install fast, and a fake of other servers (lookalike.py), run always; the others by scripts/test --servers.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from lifecycle import STEPS, run
from lookalike import LIKE, TRAITS, Lookalike
from matrix import ALWAYS, PAGE, REAL, RESULTS, RGW, SAMPLE, page, plain, read_results, write_result
from servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3server import Endpoint, S3Server

REWRITE = "BLOBPACK_REWRITE_DOCS"
# scripts/server-tests names servers by the first words of their columns, or says "all".
WANTED = os.environ.get("BLOBPACK_SERVERS", "").split()
CELLS = [
    (column, step)
    for column in (*REAL, *LIKE, *TRAITS)
    for step in STEPS
    if WANTED == ["all"]
    or (column.partition(" ")[0].lower() in WANTED)
    or (not WANTED and (column in ALWAYS or (column in TRAITS and step in SAMPLE)))
]
STARTED = ExitStack()
RUNNING: dict[str, Endpoint] = {}


@pytest.fixture(scope="session", autouse=True)
def stop_servers() -> Iterator[None]:
    """Stop the servers that the tests of this process have started."""
    with STARTED:
        yield
    RUNNING.clear()


def server_of(
    column: str, s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Endpoint, str]:
    """Return the server of a column, and the endpoint that blobpack uses; start it at its first use."""
    if column in SERVERS:
        if column not in RUNNING:
            folder = tmp_path_factory.mktemp("server")
            RUNNING[column] = STARTED.enter_context(SERVERS[column](folder))
            STARTED.callback(RUNNING[column].close)
        return RUNNING[column], RUNNING[column].endpoint
    if column != RGW and column not in RUNNING:
        RUNNING[column] = STARTED.enter_context(Lookalike(s3, *LIKE.get(column, (column,))))
    return s3, s3.endpoint if column == RGW else RUNNING[column].endpoint


@pytest.mark.parametrize(("column", "step"), CELLS)
def test_a_step_works_or_is_refused_as_documented(
    column: str,
    step: str,
    s3_env: S3Server,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, endpoint = server_of(column, s3_env, tmp_path_factory)
    for name, value in server.settings(endpoint=endpoint).items():
        monkeypatch.setenv(name, value)
    refused = plain(run(step, server, tmp_path, monkeypatch))
    if os.environ.get(REWRITE):
        write_result(column, step, refused)
    # A later version of a server may do what the documented one does not.
    learned = column in SERVERS and not WANTED and not refused
    assert learned or read_results()[column][step] == refused


def test_the_page_shows_the_matrix() -> None:
    shown = page(read_results())
    if os.environ.get(REWRITE):
        PAGE.write_text(shown)
    assert PAGE.read_text() == shown


def test_every_cell_was_run() -> None:
    results = read_results()
    assert list(results) == [*REAL, *LIKE, *TRAITS]
    assert all(list(steps) == list(STEPS) for steps in results.values())


def test_a_refusal_is_one_line_that_names_what_is_missing() -> None:
    """No sentence is Python's own, or names nothing."""
    for column, steps in read_results().items():
        for step, sentence in steps.items():
            assert "\n" not in sentence, (column, step)
            assert not re.search(r"Error\(|Traceback|None|object at", sentence), (column, step)
    assert RESULTS.exists()
