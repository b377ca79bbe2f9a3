"""The examples of docs/guides/pixano.md that need this version of Pixano print what the page shows."""

from pixano_page import run_page

TOOL = "pixano-07"


def test_examples_run_and_print_what_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(TOOL, tmp_path)
