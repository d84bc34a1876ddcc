"""Tasks with nothing to do, answered without Prefect: to import it and to start its server takes much longer than the answer.

On a configured Prefect server there is a flow run all the same, written over its REST interface. Without one there is no server
whose pages could show it, and none is started for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flows import stopping
from flows.environment import log_in_headers
from flows.state_names import count_endings, state_name
from softprompt_core import settings
from softprompt_core.errors import Outcome, first_line
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.lifecycle.run import run_if_unchanged
from softprompt_core.spec import load_each
from softprompt_core.store.connection import Store

_ANSWER_S = 8.0


def unchanged_so_far(specs: Sequence[Path], store: Store, *, dry_run: bool) -> list[LifecycleResult]:
    """Results of the first specs, up to one that has something to do or is wrong.

    Args:
        store: the record. Prefect's server was found to answer, if one is configured.
    """
    chosen = settings.current()
    if chosen.notify_block is not None and Outcome.UNCHANGED in chosen.notify_on:  # messages go through a block of Prefect's
        return []
    results: list[LifecycleResult] = []
    for _, spec in load_each(specs):
        result = None if isinstance(spec, Exception) else run_if_unchanged(spec, store=store, dry_run=dry_run)
        if result is None:
            break
        results.append(result)
    return results


def conclude_unchanged(results: Sequence[LifecycleResult]) -> list[LifecycleResult]:
    """The results of a command that has nothing to do at all.

    A configured server gets a run of the flow that would have run; of a task by itself the result names its page.
    """
    if len(results) == 1:
        page = _written("softprompt-lifecycle", results[0].task, state_name(results[0]), results[0].reason)
        results = [results[0].model_copy(update={"prefect_url": page})]
    else:
        _written("softprompt-fleet", None, None, count_endings(results))
    for result in results:
        stopping.note_finished(result)
    return list(results)


def _written(flow: str, name: str | None, state: str | None, message: str) -> str | None:
    """The page of a completed flow run that was written to the configured server. A server that takes none is only told of."""
    import httpx

    address = settings.current().prefect_api_url
    if not address:
        return None
    ended = {key: value for key, value in (("name", state), ("message", message), ("type", "COMPLETED")) if value}
    try:
        with httpx.Client(base_url=address.rstrip("/"), headers=log_in_headers(), timeout=_ANSWER_S) as client:
            flow_id = client.post("/flows/", json={"name": flow}).raise_for_status().json()["id"]
            flow_run = {"flow_id": flow_id, "state": ended} | ({"name": name} if name else {})
            run = client.post("/flow_runs/", json=flow_run).raise_for_status().json()["id"]
    except (httpx.HTTPError, KeyError, ValueError) as error:
        print(f"a detail is missing in Prefect: {first_line(error)}", file=sys.stderr)
        return None
    # Prefect Cloud's pages are at another address than its API, which PREFECT_UI_URL tells.
    pages = os.environ.get("PREFECT_UI_URL") or (address.rstrip("/").removesuffix("/api") if "://api." not in address else "")
    return f"{pages.rstrip('/')}/runs/flow-run/{run}" if pages else None
