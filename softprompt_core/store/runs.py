"""Runs in MLflow, always by their id: MLflow's "active run" belongs to one thread; logging in another would open a new run."""

from __future__ import annotations

import getpass
import signal
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TypeVar

from softprompt_core.errors import Outcome
from softprompt_core.store import processes
from softprompt_core.store.connection import Store
from softprompt_core.store.metric_buffer import Ending
from softprompt_core.store.reading import StoredRun
from softprompt_core.store.tags import OUTCOME, PREFECT_RUN, PROCESS, RUN_TAG_LIMIT, TASK, shortened

T = TypeVar("T")

_PREFECT_GRACE = timedelta(minutes=10)
FINISHED, FAILED, KILLED = (Ending(status=status) for status in ("FINISHED", "FAILED", "KILLED"))
_open: dict[str, tuple[Store, str]] = {}  # id of a run that this process has opened and not ended → its store, its task
_DECIDED = {Outcome.PROMOTED, Outcome.UNCHANGED, Outcome.REJECTED, Outcome.AWAITING_APPROVAL}


def experiment_id(store: Store, task_name: str) -> str:
    """The id of ``softprompt/<task_name>``; makes it when it is missing, takes it out of MLflow's bin when it was deleted."""
    from mlflow.exceptions import MlflowException

    name, root = f"softprompt/{task_name}", store.addresses.artifact_root
    experiment = store.client.get_experiment_by_name(name)
    if experiment is None:
        try:
            location = f"{root.rstrip('/')}/{task_name}" if root else None
            return str(store.client.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another process was faster, or something is really wrong.
            experiment = store.client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        # A deleted experiment keeps its name, so no new one can be made.
        store.client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def start_run(
    store: Store, experiment_id: str, run_name: str, tags: Mapping[str, str | None], parent_run_id: str | None = None
) -> str:
    """Open a run and return its id. Tags that are None are left out, long ones are cut.

    A run without a parent first ends those of the experiment whose process was killed.
    """
    if parent_run_id is None:
        end_killed_runs(store, [experiment_id])
    stored = {key: shortened(str(value), RUN_TAG_LIMIT) for key, value in tags.items() if value is not None}
    if parent_run_id is not None:
        stored["mlflow.parentRunId"] = parent_run_id
    stored = {**_user(), PROCESS: processes.this_process(), **stored}
    run_id = str(store.client.create_run(experiment_id, run_name=run_name, tags=stored).info.run_id)
    _open[run_id] = store, stored.get(TASK, "")
    return run_id


def reopen(store: Store, run: StoredRun, tags: Mapping[str, str | None]) -> None:
    """Let this process go on with a run that has ended. Tags that are None are left out."""
    stored = {PROCESS: processes.this_process(), **{key: value for key, value in tags.items() if value is not None}}
    for key, value in stored.items():
        store.client.set_tag(run.run_id, key, shortened(value, RUN_TAG_LIMIT))
    store.client.update_run(run.run_id, status="RUNNING")
    _open[run.run_id] = store, run.tags.get(TASK, "")


def open_runs() -> dict[str, tuple[Store, str]]:
    """Run id → store and task of what this process has opened and not ended, the newest first."""
    return dict(reversed(_open.items()))


def end_killed_runs(store: Store, experiment_ids: list[str], dead: Collection[str] = (), how: Ending = KILLED) -> list[str]:
    """End as KILLED what is still RUNNING although its process is certainly gone; returns the run ids.

    Runs of other machines stay as they are, since nobody here can know, unless their process is among the ``dead``.
    """
    running = store.reader.runs(experiment_ids, "RUNNING")
    killed = [run.run_id for run in running if _process(run) in dead or _is_killed(run)]
    for run_id in killed:
        end(store, run_id, how)
    return killed


def end_all_killed_runs(store: Store, dead: Collection[str] = (), how: Ending = KILLED) -> list[str]:
    """``end_killed_runs`` for every task."""
    pages = store.reader.experiment_pages()
    return [run_id for experiments in pages for run_id in end_killed_runs(store, experiments, dead, how)]


def killed_runs(store: Store) -> list[StoredRun]:
    """What is still RUNNING although its process is certainly gone, of all tasks. Runs of other machines are not among them."""
    pages = store.reader.experiment_pages()
    return [run for experiments in pages for run in store.reader.runs(experiments, "RUNNING") if _is_killed(run)]


def _process(run: StoredRun) -> str:
    return run.tags.get(PROCESS, "")


def _is_killed(run: StoredRun) -> bool:
    return run.is_running and processes.certainly_gone(_process(run))


def finished_flow_runs(store: Store, flow_runs: Iterable[str]) -> set[str]:
    """Which of these Prefect flow runs have a run that is over: killed, its process certainly gone, or ended a while ago."""
    ids, finished = list(flow_runs), set()
    for flow_run, experiments in product(ids, store.reader.experiment_pages()) if ids else ():
        for run in store.reader.tagged_runs(experiments, PREFECT_RUN, flow_run):
            # A lifecycle whose run has ended still reports to Prefect, and may wait for it.
            ended = run.end_time is not None and datetime.now(UTC) - run.end_time > _PREFECT_GRACE
            if ended or run.status == "KILLED" or _is_killed(run):
                finished.add(flow_run)
    return finished


def has_ended(store: Store, run_id: str) -> bool:
    """Whether nobody works on a run any more: it has ended or was deleted, or its process is certainly gone."""
    run = store.reader.run(run_id)
    return run is None or not run.is_running or _is_killed(run)


def finish(store: Store, run_id: str, outcome: Outcome, description: str, name: str | None = None) -> None:
    """Close a run as ``ending`` describes."""
    end(store, run_id, ending(outcome, description, name))


def end_unless_ended(store: Store, run_id: str, how: Ending) -> None:
    """Close a run; one that has ended before stays as it is."""
    if store.client.get_run(run_id).info.status == "RUNNING":
        end(store, run_id, how)
    else:
        _open.pop(run_id, None)


def end(store: Store, run_id: str, how: Ending = FINISHED) -> None:
    """Close a run."""
    for key, value in how.tags.items():
        store.client.set_tag(run_id, key, value)
    store.client.set_terminated(run_id, how.status)
    _open.pop(run_id, None)


def ending_of(error: BaseException) -> Ending:
    """How a run ended that an error broke off: FAILED; KILLED, with words, where a person or the system stopped the process."""
    if isinstance(error, Exception):
        return FAILED
    # Of the exceptions that signals become, here and in Prefect.
    which = getattr(error, "signal", signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)
    name = signal.Signals(which).name if which is not None else type(error).__name__
    note = f"**Interrupted** by {name} before it had ended. The next run of the task continues from what is kept."
    return Ending(status="KILLED", tags={"mlflow.note.content": note})


def ending(outcome: Outcome, description: str, name: str | None = None) -> Ending:
    """Outcome as a tag, description (markdown) for the reviewer; FINISHED, or FAILED where nothing was decided.

    Args:
        name: of the run from now on: what came of it, as lists of runs show it. Default: the outcome.
    """
    tags = {"mlflow.note.content": shortened(description, RUN_TAG_LIMIT), OUTCOME: outcome.value}
    tags |= renamed(name or outcome.value.replace("_", " "))
    return Ending(status="FINISHED" if outcome in _DECIDED else "FAILED", tags=tags)


def renamed(name: str) -> dict[str, str]:
    """The tag that gives a run another name."""
    return {"mlflow.runName": name}


def _user() -> dict[str, str]:
    try:
        return {"mlflow.user": getpass.getuser()}
    except (KeyError, OSError):  # a container may run under a user id that has no name
        return {}
