"""Each fault of the table, for real: servers are cut off or killed, a disk is filled, while a lifecycle is held at a moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.running import cannot_run, check, run_scenario
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.servers import Servers

pytestmark = [
    pytest.mark.timeout(900),  # two or three whole commands, on a machine that may be busy
    pytest.mark.xdist_group("faults"),
]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(tmp_path_factory.mktemp("faults")) as servers:
        yield servers


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(each, id=each.key, marks=[pytest.mark.nightly] if each.nightly else []) for each in SCENARIOS],
)
def test_a_fault_costs_no_more_than_the_table_says(
    scenario: Scenario, servers: Servers, taught_base: Path, blank_database: Path
) -> None:
    if reason := cannot_run(scenario, servers):
        pytest.skip(reason)
    check(run_scenario(scenario, servers, taught_base, blank_database))
