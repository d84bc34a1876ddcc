"""Score candidate, champion and baselines on the same test rows."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from softprompt_core.spec import PromptSpec
from softprompt_core.stages.inputs import Inputs


@task(name="evaluate", cache_policy=NO_CACHE, task_run_name="evaluate: {spec.name}")
def evaluate_prompt(spec: PromptSpec, inputs: Inputs, candidate: str, champion: str | None) -> str:
    from softprompt_core.stages.evaluation import evaluate

    return str(evaluate(spec, inputs, Path(candidate), Path(champion) if champion else None))
