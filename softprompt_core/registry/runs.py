"""Runs in MLflow, always by their id: MLflow's "active run" belongs to one thread, a log call in another opens an orphan run."""

from __future__ import annotations

import getpass
import hashlib
import json
import posixpath
import re
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt_core.errors import Outcome
from softprompt_core.registry import processes
from softprompt_core.registry.spool import Ending, Row
from softprompt_core.registry.stores import Stores
from softprompt_core.registry.tags import KEY_LIMIT, OUTCOME, PARAM_LIMIT, PREFECT_RUN, PROCESS, RUN_TAG_LIMIT, shortened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

_METRICS_PER_REQUEST = 1000
_PARAMS_PER_REQUEST = 100
_A_WHILE_S = 600
FINISHED, FAILED = Ending("FINISHED", {}), Ending("FAILED", {})
_SUCCESSFUL = {Outcome.PROMOTED, Outcome.UNCHANGED, Outcome.REJECTED, Outcome.AWAITING_APPROVAL}


def experiment_id(client: MlflowClient, task_name: str, stores: Stores) -> str:
    """The id of ``softprompt/<task_name>``; makes it when it is missing, takes it out of MLflow's bin when it was deleted."""
    from mlflow.exceptions import MlflowException

    name = f"softprompt/{task_name}"
    found = client.get_experiment_by_name(name)
    if found is None:
        location = f"{stores.artifact_root.rstrip('/')}/{task_name}" if stores.artifact_root else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another process was faster, or something is really wrong.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        # A deleted experiment keeps its name, so no new one can be made.
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def start_run(
    client: MlflowClient, experiment_id: str, run_name: str, tags: Mapping[str, str | None], parent_run_id: str | None = None
) -> str:
    """Open a run and return its id. Tags that are None are left out, long ones are cut. Ends what a killed process left."""
    if parent_run_id is None:
        end_killed_runs(client, [experiment_id])
    given = {key: shortened(str(value), RUN_TAG_LIMIT) for key, value in tags.items() if value is not None}
    if parent_run_id is not None:
        given["mlflow.parentRunId"] = parent_run_id
    given = {**_user(), PROCESS: processes.me(), **given}
    return str(client.create_run(experiment_id, run_name=run_name, tags=given).info.run_id)


def end_killed_runs(client: MlflowClient, experiment_ids: list[str], dead: Collection[str] = ()) -> list[str]:
    """End as KILLED what is still RUNNING although its process is certainly gone; returns the run ids.

    Runs of other machines stay as they are, since nobody here can know, unless their process is among the ``dead``.
    """
    running = _running(client, experiment_ids) if experiment_ids else ()
    owners = {run.info.run_id: run.data.tags.get(PROCESS, "") for run in running}
    found = [run for run, process in owners.items() if process in dead or processes.certainly_gone(process)]
    for run_id in found:
        client.set_terminated(run_id, "KILLED")
    return found


def end_all_killed_runs(client: MlflowClient, dead: Collection[str] = ()) -> list[str]:
    """``end_killed_runs`` for every task."""
    return [run_id for experiments in experiment_pages(client) for run_id in end_killed_runs(client, experiments, dead)]


def experiment_pages(client: MlflowClient) -> Iterator[list[str]]:
    """Ids of all tasks' experiments, a thousand at a time: databases take no query over any number of them."""
    token = None
    while True:
        page = client.search_experiments(filter_string="name LIKE 'softprompt/%'", max_results=1000, page_token=token)
        if page:
            yield [str(experiment.experiment_id) for experiment in page]
        token = page.token
        if not token:
            return


def killed_runs(client: MlflowClient) -> list[Run]:
    """What is still RUNNING although its process is certainly gone, of all tasks. Runs of other machines are not among them."""
    found = []
    for experiments in experiment_pages(client):
        for run in _running(client, experiments):
            if processes.certainly_gone(run.data.tags.get(PROCESS, "")):
                found.append(run)
    return found


def _running(client: MlflowClient, experiments: list[str]) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def finished_flow_runs(client: MlflowClient, flow_runs: Iterable[str]) -> set[str]:
    """Which of some Prefect flow runs have a run that is over: killed, its process certainly gone, or ended a while ago."""
    found, wanted = set(), list(flow_runs)
    for flow_run, experiments in product(wanted, experiment_pages(client)) if wanted else ():
        for run in client.search_runs(experiments, f"tags.`{PREFECT_RUN}` = '{flow_run}'", max_results=10):
            gone = run.info.status == "RUNNING" and processes.certainly_gone(run.data.tags.get(PROCESS, ""))
            # A lifecycle whose run has ended has still to tell Prefect, and may wait for it.
            past = run.info.end_time is not None and time.time() - run.info.end_time / 1000 > _A_WHILE_S
            if gone or past or run.info.status == "KILLED":
                found.add(flow_run)
    return found


def has_ended(client: MlflowClient, run_id: str) -> bool:
    """Whether nobody works on a run any more: it has ended or was deleted, or its process is certainly gone."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return True
    return run.info.status != "RUNNING" or processes.certainly_gone(run.data.tags.get(PROCESS, ""))


def finish(client: MlflowClient, run_id: str, outcome: Outcome, description: str) -> None:
    """Close a run: outcome as a tag, description (markdown) for the reviewer; FINISHED, or FAILED where nothing was decided."""
    _end(client, run_id, ending(outcome, description))


def end_unless_ended(client: MlflowClient, run_id: str, how: Ending) -> None:
    """Close a run; one that has ended before stays as it is."""
    if client.get_run(run_id).info.status == "RUNNING":
        _end(client, run_id, how)


def _end(client: MlflowClient, run_id: str, how: Ending) -> None:
    for key, value in how.tags.items():
        client.set_tag(run_id, key, value)
    client.set_terminated(run_id, how.status)


def ending(outcome: Outcome, description: str) -> Ending:
    """Outcome as a tag, description (markdown) for the reviewer; FINISHED, or FAILED where nothing was decided."""
    words = shortened(description, RUN_TAG_LIMIT)
    status = "FINISHED" if outcome in _SUCCESSFUL else "FAILED"
    return Ending(status, {"mlflow.note.content": words, OUTCOME: outcome.value})


def log_rows(client: MlflowClient, run_id: str, rows: Iterable[Row]) -> None:
    """Log metrics of steps, in few requests. MLflow takes the same row (key, step, time, value) once, however often it comes."""
    values = ((key, value, row.step, row.at_ms) for row in rows for key, value in row.values.items())
    for batch in _batches(values):
        client.log_batch(run_id, metrics=batch)


def log_metrics(client: MlflowClient, run_id: str, metrics: Mapping[str, float | None], step: int = 0) -> None:
    """Log single values. None is left out, NaN is kept; characters that MLflow refuses in a name are spelt out."""
    now = int(time.time() * 1000)
    for batch in _batches((key, value, step, now) for key, value in metrics.items()):
        client.log_batch(run_id, metrics=batch)


def log_points(client: MlflowClient, run_id: str, points: Mapping[str, Iterable[tuple[float, int, int]]]) -> None:
    """Log whole histories as another run has them: name → (value, time in ms, step)."""
    from mlflow.entities import Metric

    rows = [Metric(name, *point) for name, history in points.items() for point in history]
    for start in range(0, len(rows), _METRICS_PER_REQUEST):
        client.log_batch(run_id, metrics=rows[start : start + _METRICS_PER_REQUEST])


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    """Log settings as text, long ones cut. None is left out. MLflow refuses another value for a name that is logged already."""
    from mlflow.entities import Param

    rows = [Param(legal_name(key), shortened(str(value), PARAM_LIMIT)) for key, value in params.items() if value is not None]
    for start in range(0, len(rows), _PARAMS_PER_REQUEST):
        client.log_batch(run_id, params=rows[start : start + _PARAMS_PER_REQUEST])


def log_text(client: MlflowClient, run_id: str, text: str, file: str) -> None:
    """Write ``text`` to ``file`` (a path inside the run's artifacts)."""
    client.log_text(run_id, text, file)


def log_json(client: MlflowClient, run_id: str, value: Any, file: str) -> None:
    """Write plain data as JSON. Raises ValueError for NaN and infinity, which JSON does not have."""
    client.log_text(run_id, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", file)


def read_json(client: MlflowClient, run_id: str, file: str) -> Any | None:
    """What ``log_json`` or ``log_table`` wrote; None where the run, or the file in it, is not there any more."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        client.get_run(run_id)
        if file not in {item.path for item in client.list_artifacts(run_id, posixpath.dirname(file))}:
            return None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    with tempfile.TemporaryDirectory() as scratch:
        found = download_artifacts(run_id=run_id, artifact_path=file, dst_path=scratch, tracking_uri=client.tracking_uri)
        return json.loads(Path(found).read_text(encoding="utf-8"))


def log_table(client: MlflowClient, run_id: str, frame: pd.DataFrame, file: str) -> None:
    """Write a table that MLflow's evaluation view shows; ``file`` ends in ``.json``.

    The client's own ``log_table`` appends to a table that is there, so a stage that is retried would list every row twice.
    """
    client.log_text(run_id, frame.to_json(orient="split", index=False, date_format="iso", force_ascii=False), file)
    listed = json.loads(client.get_run(run_id).data.tags.get("mlflow.loggedArtifacts", "[]"))
    if (entry := {"path": file, "type": "table"}) not in listed:
        client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([*listed, entry]))


def log_figure(client: MlflowClient, run_id: str, figure: Figure, file: str) -> None:
    """Write a figure; the ending of ``file`` (``.png``, ``.svg``) chooses the format."""
    client.log_figure(run_id, figure, file)


def legal_name(name: str) -> str:
    """``name`` as MLflow takes it for a metric or parameter: ``f1/c++`` becomes ``f1/c_x2b__x2b_``. No two names become one."""

    def spelt(match: re.Match[str]) -> str:
        return f"_x{ord(match[0]):x}_"

    legal = re.sub(r"[^/\w.\- :]", spelt, name)
    # MLflow treats names as paths; `f1/.` or `f1//x` would be another one.
    if posixpath.normpath(legal) != legal or legal.startswith(("/", "..")) or legal == ".":
        legal = re.sub(r"[/.]", spelt, legal)
    if len(legal) > KEY_LIMIT:
        legal = f"{legal[: KEY_LIMIT - 9]}_{hashlib.sha256(legal.encode()).hexdigest()[:8]}"
    return legal


def _batches(values: Iterable[tuple[str, float | None, int, int]]) -> Iterator[list[Metric]]:
    from mlflow.entities import Metric

    batch: list[Metric] = []
    for key, value, step, at_ms in values:
        if value is None:
            continue
        batch.append(Metric(legal_name(key), float(value), at_ms, step))
        if len(batch) == _METRICS_PER_REQUEST:
            yield batch
            batch = []
    if batch:
        yield batch


def _user() -> dict[str, str]:
    try:
        return {"mlflow.user": getpass.getuser()}
    except (KeyError, OSError):  # a container may run under a user id that has no name
        return {}
