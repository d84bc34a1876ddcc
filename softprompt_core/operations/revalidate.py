"""When the base model changes: which champions still hold on the new one? Nothing is registered or promoted."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, computed_field

from softprompt_core.base_model import BaseIdentity, identify
from softprompt_core.base_model.loading import load_base
from softprompt_core.data import prepare
from softprompt_core.decisions.reevaluate import apply_gates, stored_results
from softprompt_core.errors import SoftpromptError, Validity
from softprompt_core.evaluation import all_metrics
from softprompt_core.evaluation.changes import same_rows
from softprompt_core.evaluation.results import DECISION_FILE, EVIDENCE_FILE, EvaluationResults
from softprompt_core.evaluation.scoring import Scorer
from softprompt_core.gates import Decision
from softprompt_core.lifecycle.champion import Champion
from softprompt_core.lifecycle.evaluate import champion_answers, score_baselines
from softprompt_core.lifecycle.run import outcome_of
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.serving import SPEC_FILE
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import BaseModelSpec, PromptSpec, load_spec
from softprompt_core.store import run_contents, runs, tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.versions import Version


class Revalidation(BaseModel):
    """Whether one champion holds on a base. ``scored``: whether its vectors had to be tried there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    task: str
    validity: Validity
    reason: str
    version: int | None = None
    trained_on: str | None = None
    base: str | None = None
    scored: bool = False
    gates: tuple[str, ...] = ()
    run_id: str | None = None
    run_url: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exit_code(self) -> int:
        return self.validity.exit_code

    @classmethod
    def failed(cls, task: str, error: Exception) -> Revalidation:
        """The result of a trial that broke off."""
        return cls(task=task, validity=Validity.CANNOT, reason=outcome_of(error)[1])


@dataclass(frozen=True)
class _Trial:
    """A champion's vectors on another base, with what the gates say.

    Attributes:
        trained_on: the base that they were trained on; ``base`` is the other.
        note: a remark about the rows.
    """

    champion: Version
    trained_on: BaseIdentity
    base: BaseIdentity
    results: EvaluationResults
    decision: Decision
    note: str


def revalidate(
    store: Store,
    name: str,
    base: BaseModelSpec | None = None,
    spec: PromptSpec | None = None,
    *,
    flow_run: FlowRun | None = None,
) -> Revalidation:
    """Whether a task's champion holds on a base.

    ``holds``: the base has the content that the champion was trained on, or its vectors pass the gates on it. ``fails``: they
    do not. ``cannot``: vectors of another width, no gates, or data or base that cannot be read. A champion that holds on changed
    content still refuses to be served there: a version of its own has to be trained.

    Args:
        base: the base in question; by default the one that ``spec`` names, else the one that the champion's own spec names.
        spec: the task's spec as it is now; its gates take the place of those that the champion was registered with.

    Raises:
        Unavailable: MLflow cannot be reached.
    """
    version = versions.by_alias(store, name, tags.CHAMPION)
    if version is None:
        return Revalidation(task=name, validity=Validity.CANNOT, reason="There is no champion.")
    trained_on = version.tags.get(tags.BASE_ID)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = versions.download(store, name, version.version, Path(scratch))
            prompt, own = SoftPrompt.load(folder / FILE_NAME), load_spec(folder / SPEC_FILE)
            trained_on = prompt.base.short
            base = base or (spec.base_model if spec is not None else own.base_model)
            identity = identify(base)
            result = _without_scoring(version, prompt, identity)
            if result is not None:
                return result
            judged_by = own.model_copy(update={"gates": spec.gates}) if spec is not None else own
            results, note = _evaluate(store, version, folder, judged_by, base)
    except SoftpromptError as error:
        return Revalidation.failed(name, error).model_copy(update=dict(version=version.version, trained_on=trained_on))
    decision = apply_gates(judged_by, results)
    return _record(store, _Trial(version, prompt.base, identity, results, decision, note), flow_run)


def _without_scoring(champion: Version, prompt: SoftPrompt, base: BaseIdentity) -> Revalidation | None:
    """What the bases' identities alone decide."""
    validity = Validity.HOLDS
    if base.fingerprint == prompt.base.fingerprint:
        reason = "It was trained on a base of exactly this content."
    elif base.hidden_size != prompt.base.hidden_size:
        validity = Validity.CANNOT
        reason = f"Its vectors have {prompt.base.hidden_size} numbers, the base needs {base.hidden_size}: train a new prompt."
    else:
        return None
    return Revalidation(
        task=champion.name,
        validity=validity,
        reason=reason,
        version=champion.version,
        trained_on=prompt.base.short,
        base=base.short,
    )


def _evaluate(
    store: Store, version: Version, folder: Path, spec: PromptSpec, base_spec: BaseModelSpec
) -> tuple[EvaluationResults, str]:
    """The champion's vectors on the other base as candidate, against the champion as it is; and a remark about the rows.

    Args:
        folder: the champion's files.
    """
    base, data, prompt = load_base(base_spec), prepare(spec), SoftPrompt.load(folder / FILE_NAME)
    same_data = version.tags.get(tags.DATA_FINGERPRINT) == data.fingerprint
    note = "" if same_data else " The data have changed since it was trained; these are the test rows of now."
    scorer = Scorer(base, spec, data.splits["test"], data.labels)
    candidate = scorer.soft(replace(prompt, base=base.identity), "candidate")
    stored = stored_results(store, version)
    if stored is not None and same_data and same_rows(stored.candidate, candidate):
        champion = stored.candidate.model_copy(update=dict(scorer="champion", slices=candidate.slices))
        problem = None
    else:
        champion, problem = champion_answers(spec, scorer, Champion(version.version, folder))
    hard_prompt, baselines = score_baselines(base, spec, data, candidate)
    results = EvaluationResults(
        candidate=candidate,
        champion=champion,
        baselines=baselines,
        hard_prompt=hard_prompt,
        champion_problem=problem,
        facts=stored.facts if stored is not None else {},
    )
    return results, note


def _record(store: Store, trial: _Trial, flow_run: FlowRun | None) -> Revalidation:
    """An MLflow run of its own with the results. The version, its aliases and the ledger stay as they are."""
    champion, base, decision, results = trial.champion, trial.base, trial.decision, trial.results
    validity = Validity.HOLDS if decision.passed else Validity.FAILS if decision.results else Validity.CANNOT
    reason = f"On {base.short}: {decision.verdict}{trial.note}"
    name, experiment = champion.name, runs.experiment_id(store, champion.name)
    run_tags = {
        tags.TASK: name,
        tags.KIND: "revalidation",
        tags.VALIDITY: validity.value,
        tags.MONITORED_VERSION: str(champion.version),
        tags.BASE_ID: base.id,
        tags.BASE_FINGERPRINT: base.fingerprint,
        tags.PREFECT_RUN: flow_run.id if flow_run else None,
    }
    run_id = runs.start_run(store, experiment, f"revalidation v{champion.version} {validity.value}", run_tags)
    metrics = {
        f"{'new_base' if scorer == 'candidate' else scorer}/{metric}": value
        for scorer, predictions in results.scorers().items()
        for metric, value in all_metrics(predictions).items()
    }
    run_contents.log_metrics(store, run_id, metrics)
    run_contents.log_json(store, run_id, results.model_dump(mode="json"), EVIDENCE_FILE)
    run_contents.log_json(store, run_id, decision.model_dump(mode="json"), DECISION_FILE)
    first = f"Champion version {champion.version} of {name}, trained on {trial.trained_on.short}: {validity.value}."
    description = f"{first}\n\n**{reason}**\n\n{decision.gates_table()}"
    store.client.set_tag(run_id, "mlflow.note.content", description[: tags.RUN_TAG_LIMIT])
    runs.end(store, run_id)
    return Revalidation(
        task=name,
        validity=validity,
        reason=reason,
        version=champion.version,
        trained_on=trial.trained_on.short,
        base=base.short,
        scored=True,
        gates=tuple(decision.to_text().splitlines()[1:]),
        run_id=run_id,
        run_url=store.run_url(experiment, run_id),
    )
