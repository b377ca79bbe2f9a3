"""Every command survives a fault at any of its calls; this runs a sample, scripts/faults runs all."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from commands import Commands, Fault
from power import cut_power, power_losses
from scenarios import scenarios
from sweep import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POWER_SCENARIOS = (
    "pack embed over both",
    "pack sidecar over both",
    "pack none over offsets",
    "append to embed",
    "append to both",
    "index embed in foreign with sidecar",
    "index embed in embed",
    "index embed in appended",
    "merge over both",
    "merge sidecar",
    "collect add",
)
# Each of these takes 0.1 s, the time after which a command raises the exception of a signal again.
DROPPED_SCENARIOS = (
    "pack embed over nothing",
    "append to embed",
    "index embed in sidecar",
    "merge over nothing",
    "extract",
)
POWER_STATES = 8
RACES = 5
DROPPED = 3


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    with Commands() as started:
        yield started


@pytest.fixture(scope="session")
def trial(commands: Commands) -> Callable[[str], Trial]:
    ready: dict[str, Trial] = {}

    def get(name: str) -> Trial:
        if name not in ready:
            ready[name] = Trial(scenarios()[name], commands)
        return ready[name]

    return get


def sample(faults: list[Fault], seed: str) -> list[Fault]:
    """Choose one fault of each kind: a kill, a signal, an error, and one that a command must not notice."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        if fault.kind == "dropped":
            continue
        kind = "kill" if fault.is_kill else "signal" if fault.is_signal else fault.kind
        kinds.setdefault("fail" if kind == "full" else kind, []).append(fault)
    rng = random.Random(seed)
    return [rng.choice(group) for group in kinds.values()]


# pyarrow takes 0.2 s each time
@pytest.mark.parametrize(
    "name",
    [name for name in scenarios() if not name.startswith("race") and name != "offsets parquet"],
)
def test_a_fault_at_any_call_leaves_old_or_new_files(name, trial):
    it = trial(name)
    assert it.problems == []
    faults = sample(it.faults(), name)
    assert len(faults) == 4
    assert [problem for fault in faults for problem in it.break_at(fault)] == []


@pytest.mark.parametrize("name", DROPPED_SCENARIOS)
def test_a_signal_that_python_drops_at_any_call_ends_the_command(name, trial):
    it = trial(name)
    faults = [fault for fault in it.faults() if fault.kind == "dropped"]
    chosen = random.Random(name).sample(faults, DROPPED)
    assert [problem for fault in chosen for problem in it.break_at(fault)] == []


@pytest.mark.parametrize("name", [name for name in scenarios() if name.startswith("race")])
def test_another_command_at_any_call_comes_before_or_after(name, trial):
    it = trial(name)
    stops = random.Random(name).sample(it.faults(), RACES)
    assert [problem for fault in stops for problem in it.break_at(fault)] == []


@pytest.mark.parametrize("name", POWER_SCENARIOS)
def test_a_power_failure_at_any_moment_leaves_old_or_new_members(name, trial):
    it = trial(name)
    losses = power_losses(it, limit=POWER_STATES)
    assert len(losses) > 3
    chosen = random.Random(name).sample(losses, min(POWER_STATES, len(losses)))
    assert [problem for loss in chosen for problem in cut_power(it, loss)] == []


def test_a_signal_that_arrives_during_an_import_ends_the_program(trial):
    it = trial("merge over nothing")
    faults = it.faults_at_import()
    assert len(faults) > 100
    for fault in random.Random(1).sample(faults, 3):
        assert it.break_at(fault) == []


def test_the_installed_program_makes_the_calls_that_are_broken_here(commands, trial):
    it = trial("pack sidecar over both")
    it.restore()
    calls = commands.run(it.scenario.command, it.work, is_installed=True).calls
    assert list(map(str, calls)) == list(map(str, it.calls))
    assert len(calls) > 20
