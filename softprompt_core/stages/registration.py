"""Fourth stage: a version in MLflow: the soft prompt, the spec, for prefix prompts the PEFT files, and no base weights."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

import softprompt_core
from softprompt_core import registry
from softprompt_core.data import load_task_data
from softprompt_core.fingerprint import library_fingerprint
from softprompt_core.registry import Version, tags
from softprompt_core.spec import PromptSpec
from softprompt_core.stages.inputs import Inputs

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from softprompt_core.soft_prompt import SoftPrompt

_CODE = Path(softprompt_core.__file__).parent / "serving" / "pyfunc_model.py"
# What a served version needs to answer; pinned to what it was trained with.
_REQUIREMENTS = ("mlflow", "torch", "transformers", "safetensors", "pandas", "pydantic", "pyyaml")


def lineage(
    spec: PromptSpec, inputs: Inputs, prompt: SoftPrompt | None = None, prefect_run: str | None = None
) -> dict[str, str | None]:
    """Tags that say what a run or a version was made from."""
    return {
        tags.TASK: spec.name,
        tags.FINGERPRINT: inputs.whole,
        tags.TRAINING_FINGERPRINT: inputs.training,
        tags.DATA_FINGERPRINT: inputs.data,
        tags.SPEC_FINGERPRINT: inputs.spec,
        tags.LIBRARY_FINGERPRINT: library_fingerprint(),
        tags.BASE_ID: inputs.base.id,
        tags.BASE_REVISION: inputs.base.revision,
        tags.BASE_FINGERPRINT: inputs.base.fingerprint,
        tags.GIT_COMMIT: git_commit(),
        tags.PREFECT_RUN: prefect_run,
        tags.POSITION: prompt.position if prompt else None,
        tags.LENGTH: str(spec.prompt.length),
        tags.SCHEDULE: f"{spec.schedule.cron} {spec.schedule.timezone}" if spec.schedule else None,
    }


def write_version_folder(spec: PromptSpec, inputs: Inputs, prompt_file: Path) -> Path:
    """What a version holds, in the workspace; a folder left by an earlier try is replaced."""
    from softprompt_core.base_model import load_base
    from softprompt_core.serving import SPEC_FILE
    from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt, write_peft

    folder = inputs.workspace.version
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    prompt = SoftPrompt.load(prompt_file)
    shutil.copy(prompt_file, folder / FILE_NAME)
    text = yaml.safe_dump(spec.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    (folder / SPEC_FILE).write_text(text, encoding="utf-8")
    if prompt.position == "prefix":
        write_peft(prompt, load_base(spec.base_model), folder)
    return folder


def register(
    spec: PromptSpec,
    inputs: Inputs,
    client: MlflowClient,
    run_id: str,
    prompt_file: Path,
    description: str,
    prefect_run: str | None = None,
) -> Version:
    """Register the prompt as a new version of the task's model. No alias moves here."""
    import pandas as pd
    from mlflow.models import infer_signature

    from softprompt_core.serving import Predictor
    from softprompt_core.soft_prompt import SoftPrompt

    folder = write_version_folder(spec, inputs, prompt_file)
    example = pd.DataFrame([dict(load_task_data(inputs.workspace.data).input_example)])
    answer = Predictor.load(folder).predict(example)
    made = registry.register(
        client,
        run_id=run_id,
        name=spec.name,
        folder=folder,
        code=_CODE,
        signature=infer_signature(example, answer),
        input_example=example,
        requirements=[f"softprompt-lifecycle=={softprompt_core.__version__}", *(f"{n}=={_public(n)}" for n in _REQUIREMENTS)],
        description=description,
        tags=lineage(spec, inputs, SoftPrompt.load(prompt_file), prefect_run),
    )
    client.update_registered_model(spec.name, spec.description or f"Soft prompts of the task {spec.name}.")
    return made


def _public(package: str) -> str:
    # "2.13.0+cpu" names a build that other machines may not find.
    return installed(package).split("+")[0]


def git_commit() -> str | None:
    """Commit of the current folder's repository, marked ``-dirty`` with uncommitted changes; None outside of one."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
