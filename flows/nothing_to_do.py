"""Tasks with nothing to do, answered without Prefect: to import it and to start its server takes ten times as long as the answer.

On a configured Prefect server each still has its flow run, written over its REST interface. Without one there is no server whose
pages could show it, and none is started for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flows import stopping
from flows.environment import log_in_headers
from flows.state_names import state_name
from softprompt_core import settings
from softprompt_core.errors import Outcome, first_line
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.lifecycle.run import run_if_unchanged
from softprompt_core.spec import load_spec
from softprompt_core.store.connection import Store

_FLOW = "softprompt-lifecycle"
_ANSWER_S = 8.0


def run_all_if_unchanged(specs: Sequence[Path], store: Store, *, dry_run: bool) -> list[LifecycleResult] | None:
    """A result a spec where none of the tasks has anything to do; None as soon as one has, or is wrong.

    Args:
        store: the record. Prefect's server was found to answer, if one is configured.
    """
    if _is_notified():  # through a block of Prefect's
        return None
    results: list[LifecycleResult] = []
    for path in specs:
        try:
            result = run_if_unchanged(load_spec(path), store=store, dry_run=dry_run)
        except Exception:  # whatever one file does to the loader is told where it is read again
            result = None
        if result is None or result.task in (other.task for other in results):
            return None
        results.append(result)
    results = [_with_flow_run(result) for result in results]
    for result in results:
        stopping.note_finished(result)
    return results


def _is_notified() -> bool:
    chosen = settings.current()
    return chosen.notify_block is not None and Outcome.UNCHANGED in chosen.notify_on


def _with_flow_run(result: LifecycleResult) -> LifecycleResult:
    """The result, with the page of its flow run on the configured server. A server that takes none is only told of."""
    import httpx

    address = settings.current().prefect_api_url
    if not address:
        return result
    state = {"type": "COMPLETED", "name": state_name(result), "message": result.reason}
    try:
        with httpx.Client(base_url=address.rstrip("/"), headers=log_in_headers(), timeout=_ANSWER_S) as client:
            flow = client.post("/flows/", json={"name": _FLOW}).raise_for_status().json()["id"]
            flow_run = {"flow_id": flow, "name": result.task, "state": state}
            run = client.post("/flow_runs/", json=flow_run).raise_for_status().json()["id"]
    except (httpx.HTTPError, KeyError, ValueError) as error:
        print(f"a detail is missing in Prefect: {first_line(error)}", file=sys.stderr)
        return result
    pages = os.environ.get("PREFECT_UI_URL") or (address.rstrip("/").removesuffix("/api") if "://api." not in address else "")
    return result.model_copy(update={"prefect_url": f"{pages.rstrip('/')}/runs/flow-run/{run}" if pages else None})
