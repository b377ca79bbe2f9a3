"""Pixano the first 0.6, which Pixano's tutorial describes: datasets built from a blob, its Python and REST interfaces, and its pages; see tests/pixano_items.py."""

import pytest

pytest.register_assert_rewrite("pixano_items")

import pixano_items  # noqa: E402

# its tests and fixtures, as if they stood here
globals().update({name: value for name, value in vars(pixano_items).items() if name[:2] != "__"})
