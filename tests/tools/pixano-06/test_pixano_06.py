"""Pixano the last 0.6: datasets built from a blob, its Python and REST interfaces, and its pages; see tests/pixano_items.py."""

import pytest

pytest.register_assert_rewrite("pixano_items")

from pixano_items import *  # noqa: E402, F403
