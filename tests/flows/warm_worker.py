"""A worker that keeps what it has imported: runs scheduled flow runs with the tag ``warm``, one after the other, in this process.

Prefect's own runner starts a process for each run, which spends seconds on imports; one test has the real one.
"""

from __future__ import annotations

import time

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType, FlowRunFilterTags
from prefect.client.schemas.objects import StateType
from prefect.flow_engine import run_flow
from prefect.states import Pending

from flows.lifecycle import lifecycle

WANTED = FlowRunFilter(
    tags=FlowRunFilterTags(all_=["warm"]),
    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
)

if __name__ == "__main__":
    print("ready", flush=True)
    with get_client(sync_client=True) as client:
        while True:
            for run in client.read_flow_runs(flow_run_filter=WANTED):
                client.set_flow_run_state(run.id, Pending())
                run_flow(lifecycle, flow_run=run, parameters=run.parameters, return_type="state")
            time.sleep(0.2)
