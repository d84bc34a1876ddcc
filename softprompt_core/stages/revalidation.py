"""When the base model changes: which champions still hold on the new one? Nothing is registered or promoted."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt_core import registry
from softprompt_core.base_model import BaseIdentity, BaseModel, identify, load_base
from softprompt_core.data import TaskData, prepare
from softprompt_core.errors import SoftpromptError, Validity
from softprompt_core.evaluation import Predictions, all_metrics, majority
from softprompt_core.evaluation.scoring import Scorer, best_hard_prompt
from softprompt_core.gates import Decision
from softprompt_core.registry import Version, tags
from softprompt_core.report import same_rows
from softprompt_core.serving import SPEC_FILE
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import BaseModelSpec, PromptSpec, load_spec
from softprompt_core.stages.evidence import EVIDENCE_FILE, Evidence
from softprompt_core.stages.promotion import judge
from softprompt_core.stages.record import run_url, stores

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Revalidation:
    """Whether one champion holds on a base. ``scored``: whether its vectors had to be tried there."""

    task: str
    validity: Validity
    reason: str
    version: int | None = None
    trained_on: str | None = None
    base: str | None = None
    scored: bool = False
    gates: Sequence[str] = ()
    run_id: str | None = None
    run_url: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "validity": self.validity.value, "gates": list(self.gates), "exit_code": self.validity.exit_code}


def revalidate(
    client: MlflowClient,
    name: str,
    base: BaseModelSpec | None = None,
    spec: PromptSpec | None = None,
    *,
    prefect_run: str | None = None,
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
    champion = registry.by_alias(client, name, tags.CHAMPION)
    if champion is None:
        return Revalidation(name, Validity.CANNOT, "There is no champion.")
    trained_on = champion.tags.get(tags.BASE_ID)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = registry.download(client, name, champion.version, Path(scratch))
            prompt, own = SoftPrompt.load(folder / FILE_NAME), load_spec(folder / SPEC_FILE)
        trained_on, wanted = prompt.base.short, base or (spec.base_model if spec is not None else own.base_model)
        identity = identify(wanted)
        settled = _without_scoring(champion, prompt, identity)
        if settled is not None:
            return settled
        judged = own.model_copy(update={"gates": spec.gates}) if spec is not None else own
        evidence, note = _evidence(client, champion, prompt, judged, load_base(wanted))
    except SoftpromptError as error:
        return Revalidation(name, Validity.CANNOT, str(error), champion.version, trained_on)
    decision = judge(judged, evidence)
    return _record(client, champion, prompt, identity, decision, evidence, note, prefect_run)


def _without_scoring(champion: Version, prompt: SoftPrompt, base: BaseIdentity) -> Revalidation | None:
    """What the bases' identities alone decide."""
    found = Revalidation(champion.name, Validity.HOLDS, "", champion.version, prompt.base.short, base.short)
    if base.fingerprint == prompt.base.fingerprint:
        return replace(found, reason="It was trained on a base of exactly this content.")
    if base.hidden_size != prompt.base.hidden_size:
        reason = f"Its vectors have {prompt.base.hidden_size} numbers, the base needs {base.hidden_size}: train a new prompt."
        return replace(found, validity=Validity.CANNOT, reason=reason)
    return None


def _evidence(
    client: MlflowClient, champion: Version, prompt: SoftPrompt, spec: PromptSpec, base: BaseModel
) -> tuple[Evidence, str]:
    """The champion's vectors on the new base as candidate, against the champion as it is; and a remark about the rows."""
    data = prepare(spec)
    test = data.splits["test"]
    same = champion.tags.get(tags.DATA_FINGERPRINT) == data.fingerprint
    note = "" if same else " The data have changed since it was trained; these are the test rows of now."
    moved = Scorer(base, spec, test, data.labels).soft(replace(prompt, base=base.identity), "candidate")
    stored = registry.read_json(client, champion.run_id, EVIDENCE_FILE)
    before, problem = _before(prompt, spec, data, moved, stored if same else None)
    template, hard = best_hard_prompt(base, spec, data.splits["validation"], test, data.labels)
    baselines = {"hard_prompt": hard}
    if data.labels:
        baselines["majority"] = majority(moved, [example.target for example in data.splits["train"]])
    facts = stored.get("facts", {}) if stored is not None else {}
    return Evidence(moved, before, baselines, template, problem, facts), note


def _before(
    prompt: SoftPrompt, spec: PromptSpec, data: TaskData, moved: Predictions, stored: dict[str, Any] | None
) -> tuple[Predictions, str | None]:
    """The champion's answers on its own base: those that are stored, if they are to these rows, else scored anew."""
    if stored is not None and same_rows(found := Predictions.from_json(stored["candidate"]), moved):
        return replace(found, scorer="champion", slices=moved.slices), None
    try:
        return Scorer(load_base(spec.base_model), spec, data.splits["test"], data.labels).soft(prompt, "champion"), None
    except SoftpromptError as error:
        # No rows at all: a gate against the champion then fails, and says so.
        return Predictions("champion", (), (), (), (), {name: () for name in moved.slices}, data.labels), str(error)


def _record(
    client: MlflowClient,
    champion: Version,
    prompt: SoftPrompt,
    base: BaseIdentity,
    decision: Decision,
    evidence: Evidence,
    note: str,
    prefect_run: str | None,
) -> Revalidation:
    """An MLflow run of its own with the evidence. The version, its aliases and the ledger stay as they are."""
    validity = Validity.HOLDS if decision.passed else Validity.FAILS if decision.results else Validity.CANNOT
    reason = f"On {base.short}: {decision.verdict}{note}"
    name, experiment = champion.name, registry.experiment_id(client, champion.name, stores())
    run_id = registry.start_run(
        client,
        experiment,
        f"{name}-revalidation-v{champion.version}",
        {
            tags.TASK: name,
            tags.KIND: "revalidation",
            tags.VALIDITY: validity.value,
            tags.MONITORED_VERSION: str(champion.version),
            tags.BASE_ID: base.id,
            tags.BASE_FINGERPRINT: base.fingerprint,
            tags.PREFECT_RUN: prefect_run,
        },
    )
    metrics = {
        f"{'new_base' if scorer == 'candidate' else scorer}/{metric}": value
        for scorer, predictions in evidence.scorers().items()
        for metric, value in all_metrics(predictions).items()
    }
    registry.log_metrics(client, run_id, metrics)
    registry.log_json(client, run_id, evidence.to_json(), EVIDENCE_FILE)
    registry.log_json(client, run_id, decision.to_json(), "gates/decision.json")
    words = (
        f"Champion version {champion.version} of {name}, trained on {prompt.base.short}: {validity.value}.\n\n**{reason}**\n\n"
    )
    client.set_tag(run_id, "mlflow.note.content", f"{words}{decision.gates_table()}"[: tags.RUN_TAG_LIMIT])
    client.set_terminated(run_id, "FINISHED")
    return Revalidation(
        task=name,
        validity=validity,
        reason=reason,
        version=champion.version,
        trained_on=prompt.base.short,
        base=base.short,
        scored=True,
        gates=decision.to_text().splitlines()[1:],
        run_id=run_id,
        run_url=run_url(experiment, run_id),
    )
