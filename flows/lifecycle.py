"""The lifecycle of one soft prompt: data → training → evaluation → registration → decision.

The flow always ends in exactly one outcome, which names its final state. Nothing is written to MLflow before data, base and
stores are known to be good.
"""

from __future__ import annotations

import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.utilities.urls import url_for

from flows.handover import MLFLOW_RUN, publish, state_name
from flows.late_runs import collapse_late_runs
from flows.notifying import notify
from softprompt_core import registry
from softprompt_core.errors import Outcome, SoftpromptError
from softprompt_core.gates import Decision
from softprompt_core.registry import ChampionMoved, tags
from softprompt_core.soft_prompt import FILE_NAME
from softprompt_core.spec import PromptSpec, load_spec, parse_spec
from softprompt_core.stages import gate_report, record, reporting
from softprompt_core.stages.evaluation import Evidence
from softprompt_core.stages.inputs import Inputs
from softprompt_core.stages.promotion import judge
from softprompt_core.stages.result import LifecycleResult
from softprompt_core.stages.training import best
from tasks.data_prep import prepare_data
from tasks.evaluation import evaluate_prompt
from tasks.promotion import decide_and_promote
from tasks.registration import register_version
from tasks.tracking import close_run, log_evaluation, log_gate_report, log_training, open_run
from tasks.training import check, train

_FAILURES = (Outcome.INVALID, Outcome.DIVERGED, Outcome.UNAVAILABLE)
_TRIES = 3  # decisions against a champion that moved meanwhile


@flow(name="softprompt-lifecycle", validate_parameters=False, on_running=[collapse_late_runs])
def lifecycle(spec: dict[str, Any] | str, force: bool = False, dry_run: bool = False) -> State[Any]:
    """Bring one task up to date.

    Args:
        spec: a spec as plain data, or the path of a YAML file that the worker can read.
        force: run even if nothing has changed since the last decided version.
        dry_run: stop before anything is written to MLflow, and end in the outcome that it would have been.
    """
    result = run_lifecycle(spec, force=force, dry_run=dry_run)
    publish(result)
    notify(result)
    make = Failed if result.outcome in _FAILURES else Completed
    return make(name=state_name(result), message=result.reason, data=result.to_json())


def run_lifecycle(given: dict[str, Any] | str, *, force: bool, dry_run: bool = False) -> LifecycleResult:
    """The flow's body. Whatever happens becomes an outcome, so that one task of a fleet never stops the others."""
    began = time.monotonic()
    name = given.get("name", "?") if isinstance(given, dict) else Path(given).stem
    try:
        spec = parse_spec(given) if isinstance(given, dict) else load_spec(given)
        name = spec.name
        client = record.client()
        inputs = prepare_data(spec)
        last = registry.last_decided(client, spec.name)
        if not force and last is not None and last.tags.get(tags.FINGERPRINT) == inputs.whole:
            result = _unchanged(spec, last)
        else:
            result = (_dry_run if dry_run else _run)(spec, inputs)
    except SoftpromptError as error:
        result = LifecycleResult(name, error.outcome, str(error))
    except Exception as error:
        # A store that died meanwhile, a full disk, a bug: nobody can act on it without the traceback.
        traceback.print_exc()
        first = (str(error).strip() or "no message").splitlines()[0]
        result = LifecycleResult(name, Outcome.UNAVAILABLE, f"{type(error).__name__}: {first} (traceback on stderr)")
    return replace(result, seconds=round(time.monotonic() - began, 1), prefect_url=_prefect_url(), dry_run=dry_run)


def _unchanged(spec: PromptSpec, last: registry.Version) -> LifecycleResult:
    decided = last.tags.get(tags.OUTCOME, "decided")
    reason = f"data, spec, base model and library are those of version {last.version} ({decided}); nothing was trained"
    url = record.version_url(spec.name, last.version)
    return LifecycleResult(spec.name, Outcome.UNCHANGED, reason, version=last.version, run_id=last.run_id, run_url=url)


def _dry_run(spec: PromptSpec, inputs: Inputs) -> LifecycleResult:
    """Train, evaluate, and judge as ``_run`` would; MLflow is only read. A real run here after it uses the training again."""
    folder, _ = _champion(spec, inputs)
    check(spec, inputs, _prompt_file(folder))
    chosen = best(train(spec, inputs, _prompt_file(folder)))
    evidence = Evidence.load(Path(evaluate_prompt(spec, inputs, chosen.prompt, str(folder) if folder else None)))
    decision = judge(spec, evidence)
    create_markdown_artifact(decision.to_markdown(), key="gate-report", description=f"{spec.name}, dry run")
    return LifecycleResult(
        task=spec.name,
        outcome=decision.outcome,
        reason=decision.verdict,
        metric=evidence.headline(),
        scores=reporting.scores(evidence),
        gates=decision.to_text().splitlines()[1:],
    )


def _run(spec: PromptSpec, inputs: Inputs) -> LifecycleResult:
    """Train, evaluate, register, decide; the MLflow run is closed with an outcome whatever happens."""
    flow_run = runtime.flow_run.get_id()
    folder, champion = _champion(spec, inputs)
    check(spec, inputs, _prompt_file(folder))
    experiment, run_id = open_run(spec, inputs, flow_run)
    url = record.run_url(experiment, run_id)
    try:
        words = f"MLflow run of {spec.name}"
        create_link_artifact(link=url, key=MLFLOW_RUN, link_text=words, description="The run with its evidence")
        return _decided(spec, inputs, folder, champion, experiment, run_id, flow_run)
    except SoftpromptError as error:
        words = reporting.describe_run(spec, inputs, error.outcome, str(error), prefect=_prefect_words())
        close_run(run_id, error.outcome, words)
        return LifecycleResult(spec.name, error.outcome, str(error), run_id=run_id, run_url=url)
    except BaseException:
        with suppress(Exception):  # the store may be what failed; the first error must not be hidden
            record.client().set_terminated(run_id, "FAILED")
        raise


def _decided(
    spec: PromptSpec,
    inputs: Inputs,
    folder: Path | None,
    champion: int | None,
    experiment: str,
    run_id: str,
    flow_run: str | None,
) -> LifecycleResult:
    client = record.client()
    trained = train(spec, inputs, _prompt_file(folder))
    chosen = best(trained)
    log_training(spec, experiment, run_id, trained, chosen)
    evidence_file = evaluate_prompt(spec, inputs, chosen.prompt, str(folder) if folder else None)
    version = register_version(
        spec, inputs, experiment, run_id, chosen.prompt, evidence_file, flow_run, champion, _prefect_words()
    )
    for attempt in range(1, _TRIES + 1):
        try:
            # Before any alias moves: a champion whose evidence is missing could not be explained.
            log_evaluation(spec, inputs, run_id, evidence_file)
            log_gate_report(spec, inputs, evidence_file, chosen, experiment, run_id, version, champion, _prefect_url())
            decision = decide_and_promote(spec, version, champion, evidence_file, run_id, by="softprompt-lifecycle")
            break
        except ChampionMoved:
            if attempt == _TRIES:
                raise
            folder, champion = _champion(spec, inputs)
            evidence_file = evaluate_prompt(spec, inputs, chosen.prompt, str(folder) if folder else None)
    evidence = Evidence.load(Path(evidence_file))
    changes = gate_report.change_lines(client, spec.name, inputs, evidence, champion)
    if attempt > 1:
        words = reporting.describe_version(
            spec, inputs, evidence, decision, experiment, run_id, changes=changes, prefect=_prefect_words()
        )
        client.update_model_version(spec.name, str(version), words)
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
    close_run(run_id, decision.outcome, words)
    create_markdown_artifact(decision.to_markdown(), key="gate-report", description=f"{spec.name} version {version}")
    return _result(spec, decision, evidence, version, experiment, run_id)


def _champion(spec: PromptSpec, inputs: Inputs) -> tuple[Path | None, int | None]:
    """Folder and number of the version that is champion now."""
    client = record.client()
    champion = registry.by_alias(client, spec.name, tags.CHAMPION)
    if champion is None:
        return None, None
    place = inputs.workspace.folder / f"champion-{champion.version}"
    return registry.download(client, spec.name, champion.version, place), champion.version


def _prompt_file(version: Path | None) -> str | None:
    return str(version / FILE_NAME) if version else None


def _result(
    spec: PromptSpec, decision: Decision, evidence: Evidence, version: int, experiment: str, run_id: str
) -> LifecycleResult:
    return LifecycleResult(
        task=spec.name,
        outcome=decision.outcome,
        reason=decision.verdict,
        version=version,
        run_id=run_id,
        run_url=record.run_url(experiment, run_id),
        metric=evidence.headline(),
        scores=reporting.scores(evidence),
        size_bytes=registry.version_size_bytes(record.client(), spec.name, version),
        gates=decision.to_text().splitlines()[1:],
    )


def _prefect_url() -> str | None:
    flow_run = runtime.flow_run.get_id()
    return url_for("flow-run", obj_id=flow_run) if flow_run else None


def _prefect_words() -> str | None:
    flow_run = runtime.flow_run.get_id()
    if flow_run is None:
        return None
    url = _prefect_url()
    return (
        f"[{runtime.flow_run.get_name()}]({url})" if url else f"{runtime.flow_run.get_name()} ({flow_run}), run without a server"
    )
