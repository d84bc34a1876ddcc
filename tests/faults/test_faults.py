"""Each fault of the table, for real: servers are killed, a disk is filled, while a lifecycle stands at a chosen moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.place import Place
from tests.faults.playing import check, play, skipped
from tests.faults.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.timeout(900)  # a play is two or three whole commands, on a machine that may be busy


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("faults")) as found:
        yield found


@pytest.mark.parametrize("number", range(len(SCENARIOS)), ids=[f"{s.key}" for s in SCENARIOS])
def test_a_fault_costs_no_more_than_the_table_says(number: int, place: Place, taught_base: Path) -> None:
    scenario: Scenario = SCENARIOS[number]
    if reason := skipped(scenario, place):
        pytest.skip(reason)
    check(play(scenario, place, taught_base, number + 1))
