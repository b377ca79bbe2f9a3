"""Pixano the last 0.6: datasets built from a blob, its Python and REST interfaces, and its pages; see tests/pixano_items.py."""

import pytest

pytest.register_assert_rewrite("pixano_items")

import pixano_items  # noqa: E402

globals().update(vars(pixano_items))
