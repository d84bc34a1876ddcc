"""Let the gates decide and the registry act on it."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from softprompt_core.gates import Decision
from softprompt_core.spec import PromptSpec
from softprompt_core.stages import record
from softprompt_core.stages.evidence import Evidence
from softprompt_core.stages.promotion import act, judge
from softprompt_core.stages.review import Review, Verb, review


@task(name="decide and promote", cache_policy=NO_CACHE, task_run_name="decide: {spec.name} version {version}")
@record.patient
def decide_and_promote(spec: PromptSpec, version: int, champion: int | None, evidence: str, run_id: str, by: str) -> Decision:
    """Raises ChampionMoved when the champion is not the one compared with any more."""
    decision = judge(spec, Evidence.load(Path(evidence)))
    act(record.client(), spec, version, champion, decision, run_id, by)
    return decision


@task(name="review", cache_policy=NO_CACHE, task_run_name="{verb}: {name} version {version}")
def review_version(name: str, version: int, verb: Verb, by: str, reason: str) -> Review:
    """A person's decision; the gates run again where the champion has moved."""
    return review(name, version, verb, by=by, reason=reason)
