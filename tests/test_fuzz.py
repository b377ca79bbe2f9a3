"""Some hundred inputs of each fuzzer, always the same ones; scripts/fuzz runs more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fuzz.run import TARGETS, run_seeds

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_agree_with_the_oracle(name: str, tmp_path: Path) -> None:
    counts = run_seeds(name, range(400), tmp_path)
    # a fuzzer whose inputs are all refused, or all accepted, would find nothing
    assert min(counts["accepted"], counts["refused"]) >= 40, counts
