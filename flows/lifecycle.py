"""The lifecycle of one soft prompt: data → training → evaluation → registration → decision.

The flow always ends in exactly one outcome, which names its final state. Nothing is written to MLflow before data, base and
stores are known to be good.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.utilities.urls import url_for

from flows.handover import MLFLOW_RUN, await_server, final_state, keep, publish, show_link, show_markdown, state_name
from flows.late_runs import collapse_late_runs
from flows.notifying import notify
from softprompt_core import registry
from softprompt_core.errors import Outcome, SoftpromptError
from softprompt_core.gates import Decision
from softprompt_core.registry import ChampionMoved, tags
from softprompt_core.spec import PromptSpec, load_spec, parse_spec
from softprompt_core.stages import gate_report, record, reporting
from softprompt_core.stages.evidence import Evidence
from softprompt_core.stages.inputs import Inputs, gather
from softprompt_core.stages.promotion import judge
from softprompt_core.stages.result import LifecycleResult
from softprompt_core.stages.trained import best
from tasks.data_prep import prepare_data
from tasks.evaluation import evaluate_prompt
from tasks.fan_out import Item, fan_out
from tasks.promotion import decide_and_promote
from tasks.registration import register_version
from tasks.tracking import OpenRun, close, close_run, log_evaluation, log_gate_report, log_training, open_run
from tasks.training import check, train

T = TypeVar("T")

FAILURES = (Outcome.INVALID, Outcome.DIVERGED, Outcome.UNAVAILABLE)
_TRIES = 3  # decisions against a champion that moved meanwhile


@flow(name="softprompt-lifecycle", validate_parameters=False, on_running=[collapse_late_runs])
def lifecycle(spec: dict[str, Any] | str, force: bool = False, dry_run: bool = False, ray: bool = False) -> State[Any]:
    """Bring one task up to date.

    Args:
        spec: a spec as plain data, or the path of a YAML file that the worker can read.
        force: run even if nothing has changed since the last decided version.
        dry_run: stop before anything is written to MLflow, and end in the outcome that it would have been.
        ray: run on the Ray cluster that the settings name, with several seeds on several workers.
    """
    result = (_on_ray if ray else run_lifecycle)(spec, force=force, dry_run=dry_run)
    keep([result])
    await_server()
    publish(result)
    notify(result)
    return final_state(state_name(result), result.reason, result.to_json(), failed=result.outcome in FAILURES)


def run_lifecycle(
    given: dict[str, Any] | str, *, force: bool, dry_run: bool = False, spread_seeds: bool = False
) -> LifecycleResult:
    """The flow's body. Whatever happens becomes an outcome, so that one task of a fleet never stops the others.

    Args:
        spread_seeds: train several seeds on several workers of the Ray cluster that this process is one of.
    """
    began = time.monotonic()
    name = _name(given)
    try:
        spec = _spec(given)
        name = spec.name
        record.client()
        if not dry_run:
            _deliver_left()
        inputs = prepare_data(spec)
        same = None if force else _unchanged(spec, inputs)
        result = same or (_dry_run if dry_run else _run)(spec, inputs, spread_seeds)
    except Exception as error:
        result = LifecycleResult(name, *failure(error))
    return replace(result, seconds=round(time.monotonic() - began, 1), prefect_url=prefect_url(), dry_run=dry_run)


def failure(error: Exception) -> tuple[Outcome, str]:
    """The outcome that an error leads to, and its words."""
    known = error if isinstance(error, SoftpromptError) else registry.unavailable(error, record.stores())
    if known is not None:
        return known.outcome, str(known)
    # A mistake of ours: nobody can act on it without the traceback.
    traceback.print_exception(error)
    first = (str(error).strip() or "no message").splitlines()[0]
    return Outcome.UNAVAILABLE, f"{type(error).__name__}: {first} (traceback on stderr)"


def _on_ray(given: dict[str, Any] | str, *, force: bool, dry_run: bool) -> LifecycleResult:
    """``run_lifecycle`` on a worker of the Ray cluster, as a task of this flow run."""
    name = _name(given)
    try:
        spec = _spec(given)  # paths in it are absolute from here on
        name = spec.name
        item = Item(name, spec.base_model.model_dump_json(), (spec.model_dump(mode="json"), force, dry_run))
        (found,) = fan_out(_on_worker, [item])
    except Exception as error:
        found = error
    if isinstance(found, Exception):
        outcome, reason = failure(found)
        return LifecycleResult(name, outcome, reason, prefect_url=prefect_url(), dry_run=dry_run)
    done: LifecycleResult = found
    return done


def _on_worker(spec: dict[str, Any], force: bool, dry_run: bool) -> LifecycleResult:
    return run_lifecycle(spec, force=force, dry_run=dry_run, spread_seeds=True)


def _name(given: dict[str, Any] | str) -> str:
    return str(given.get("name", "?")) if isinstance(given, dict) else Path(given).stem


def _spec(given: dict[str, Any] | str) -> PromptSpec:
    return parse_spec(given) if isinstance(given, dict) else load_spec(given)


def unchanged(spec: PromptSpec, *, dry_run: bool = False) -> LifecycleResult | None:
    """The result of a task that has nothing to do; None for one that a lifecycle must look at, whatever the reason is."""
    began = time.monotonic()
    try:
        result = _unchanged(spec, gather(spec))
    except Exception:
        return None  # the lifecycle meets the same trouble, and makes an outcome of it
    seconds = round(time.monotonic() - began, 1)
    return result and replace(result, seconds=seconds, prefect_url=prefect_url(), dry_run=dry_run)


def _unchanged(spec: PromptSpec, inputs: Inputs) -> LifecycleResult | None:
    last = registry.last_decided(record.client(), spec.name)
    if last is None or last.tags.get(tags.FINGERPRINT) != inputs.whole:
        return None
    decided = last.tags.get(tags.OUTCOME, "decided")
    reason = f"data, spec, base model and library are those of version {last.version} ({decided}); nothing was trained"
    url = record.version_url(spec.name, last.version)
    return LifecycleResult(spec.name, Outcome.UNCHANGED, reason, version=last.version, run_id=last.run_id, run_url=url)


def _dry_run(spec: PromptSpec, inputs: Inputs, spread_seeds: bool) -> LifecycleResult:
    """Train, evaluate, and judge as ``_run`` would; MLflow is only read. A real run here after it uses the training again."""
    folder, _ = _champion(spec, inputs)
    check(spec, inputs, folder)
    chosen = best(train(spec, inputs, folder, spread=spread_seeds))
    evidence = Evidence.load(Path(evaluate_prompt(spec, inputs, chosen.prompt, folder)))
    decision = judge(spec, evidence)
    show_markdown("gate-report", decision.to_markdown(), f"{spec.name}, dry run")
    return LifecycleResult(
        task=spec.name,
        outcome=decision.outcome,
        reason=decision.verdict,
        metric=evidence.headline(),
        scores=reporting.scores(evidence),
        gates=decision.to_text().splitlines()[1:],
    )


def _run(spec: PromptSpec, inputs: Inputs, spread_seeds: bool) -> LifecycleResult:
    """Train, evaluate, register, decide; the MLflow run is closed with an outcome whatever happens."""
    flow_run = runtime.flow_run.get_id()
    folder, champion = _champion(spec, inputs)
    check(spec, inputs, folder)
    run = open_run(spec, inputs, flow_run)
    url = record.run_url(run.experiment, run.id)
    try:
        show_link(MLFLOW_RUN, url, f"MLflow run of {spec.name}", "The run with its evidence")
        return _decided(spec, inputs, folder, champion, run, flow_run, spread_seeds)
    except Exception as error:
        outcome, reason = failure(error)
        close_run(spec, run, outcome, reporting.describe_run(spec, inputs, outcome, reason, prefect=_prefect_words()))
        return LifecycleResult(spec.name, outcome, reason, run_id=run.id, run_url=url)
    except BaseException:
        with suppress(Exception):  # the first error must not be hidden
            close(spec, run, registry.FAILED)
        raise


def _decided(
    spec: PromptSpec,
    inputs: Inputs,
    folder: str | None,
    champion: int | None,
    run: OpenRun,
    flow_run: str | None,
    spread_seeds: bool,
) -> LifecycleResult:
    trained = train(spec, inputs, folder, run.curves, spread_seeds)
    chosen = best(trained)
    log_training(spec, run, trained, chosen)
    evidence_file = evaluate_prompt(spec, inputs, chosen.prompt, folder)
    version = register_version(
        spec, inputs, run.experiment, run.id, chosen.prompt, evidence_file, flow_run, champion, _prefect_words()
    )
    for attempt in range(1, _TRIES + 1):
        try:
            # Before any alias moves: a champion whose evidence is missing could not be explained.
            log_evaluation(spec, inputs, run.id, evidence_file)
            log_gate_report(spec, inputs, evidence_file, chosen, run.experiment, run.id, version, champion, prefect_url())
            decision = decide_and_promote(spec, version, champion, evidence_file, run.id, by="softprompt-lifecycle")
            break
        except ChampionMoved:
            if attempt == _TRIES:
                raise
            folder, champion = _champion(spec, inputs)
            evidence_file = evaluate_prompt(spec, inputs, chosen.prompt, folder)
    evidence = Evidence.load(Path(evidence_file))
    # What has been decided stands, whether MLflow answers from here on or not.
    none: list[str] = []
    changes = _if_answered(lambda: gate_report.change_lines(record.client(), spec.name, inputs, evidence, champion), none)
    if attempt > 1:
        words = reporting.describe_version(
            spec, inputs, evidence, decision, run.experiment, run.id, changes=changes, prefect=_prefect_words()
        )
        _if_answered(lambda: record.client().update_model_version(spec.name, str(version), words), None)
    words = reporting.describe_run(
        spec,
        inputs,
        decision.outcome,
        decision.verdict,
        evidence=evidence,
        decision=decision,
        version=version,
        changes=changes,
        prefect=_prefect_words(),
    )
    close_run(spec, run, decision.outcome, words)
    show_markdown("gate-report", decision.to_markdown(), f"{spec.name} version {version}")
    return _result(spec, decision, evidence, version, run)


@record.patient
def _champion(spec: PromptSpec, inputs: Inputs) -> tuple[str | None, int | None]:
    """Folder and number of the version that is champion now."""
    return record.champion(spec.name, inputs.workspace.folder)


def _result(spec: PromptSpec, decision: Decision, evidence: Evidence, version: int, run: OpenRun) -> LifecycleResult:
    return LifecycleResult(
        task=spec.name,
        outcome=decision.outcome,
        reason=decision.verdict,
        version=version,
        run_id=run.id,
        run_url=record.run_url(run.experiment, run.id),
        metric=evidence.headline(),
        scores=reporting.scores(evidence),
        size_bytes=_if_answered(lambda: registry.version_size_bytes(record.client(), spec.name, version), None),
        gates=decision.to_text().splitlines()[1:],
    )


def _deliver_left() -> None:
    """What earlier runs could not tell MLflow. It keeps; a store that does not answer now will be noticed where it matters."""
    with suppress(Exception):
        registry.deliver_all(record.client(), record.stores())


def _if_answered(call: Callable[[], T], otherwise: T) -> T:
    """What MLflow says, or ``otherwise`` if it does not answer; that is told and nothing more."""
    try:
        return call()
    except Exception as error:
        trouble = registry.unavailable(error, record.stores())
        if trouble is None:
            raise
        print(f"decided, but the description is not whole: {trouble}", file=sys.stderr)
        return otherwise


def prefect_url() -> str | None:
    """Address of the flow run that this is called in, where a server has pages."""
    flow_run = runtime.flow_run.get_id()
    return url_for("flow-run", obj_id=flow_run) if flow_run else None


def _prefect_words() -> str | None:
    flow_run = runtime.flow_run.get_id()
    if flow_run is None:
        return None
    url = prefect_url()
    return (
        f"[{runtime.flow_run.get_name()}]({url})" if url else f"{runtime.flow_run.get_name()} ({flow_run}), run without a server"
    )
