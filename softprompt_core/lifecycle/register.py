"""Register a trained prompt: a version in MLflow with the soft prompt, the whole spec, for prefix prompts the PEFT files, and no
base weights."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt_core.fingerprint import library_fingerprint
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.lifecycle.tracking.flow_run import FlowRun
from softprompt_core.spec import PromptSpec, to_yaml
from softprompt_core.spec.data import template_fields
from softprompt_core.store import registration, tags
from softprompt_core.store.connection import Store
from softprompt_core.store.versions import Version
from softprompt_core.version import __version__

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

_CODE = Path(__file__).parents[1] / "serving" / "pyfunc_model.py"
# What a served version needs to answer; pinned to what it was trained with.
_REQUIREMENTS = ("mlflow", "torch", "transformers", "safetensors", "pandas", "pydantic", "ruamel.yaml")
UNDECIDED = "Soft prompt for {task}: registered, not decided yet."


def lineage(task: ResolvedTask, position: str | None = None, flow_run: FlowRun | None = None) -> dict[str, str | None]:
    """Tags that say what a run or a version was made from."""
    spec, fingerprints = task.spec, task.fingerprints
    return {
        tags.TASK: spec.name,
        tags.FINGERPRINT: fingerprints.all,
        tags.TRAINING_FINGERPRINT: fingerprints.training,
        tags.DATA_FINGERPRINT: fingerprints.data,
        tags.SPEC_FINGERPRINT: fingerprints.spec,
        tags.LIBRARY_FINGERPRINT: library_fingerprint(),
        tags.BASE_ID: task.base.id,
        tags.BASE_REVISION: task.base.revision,
        tags.BASE_FINGERPRINT: task.base.fingerprint,
        tags.GIT_COMMIT: git_commit(),
        tags.PREFECT_RUN: flow_run.id if flow_run else None,
        tags.POSITION: position,
        tags.LENGTH: str(spec.prompt.length),
        tags.SCHEDULE: f"{spec.schedule.cron} {spec.schedule.timezone}" if spec.schedule else None,
    }


def write_version_folder(task: ResolvedTask, prompt_file: Path) -> Path:
    """What a version holds, in the workspace; a folder left by an earlier try is replaced."""
    from softprompt_core.base_model.loading import load_base
    from softprompt_core.serving import SPEC_FILE
    from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt, write_peft

    folder = task.workspace.version
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(prompt_file, folder / FILE_NAME)
    (folder / SPEC_FILE).write_text(spec_yaml(task.spec), encoding="utf-8")
    prompt = SoftPrompt.load(prompt_file)
    if prompt.position == "prefix":
        write_peft(prompt, load_base(task.spec.base_model), folder)
    return folder


def spec_yaml(spec: PromptSpec) -> str:
    """The whole spec, defaults included: a default that changes later must not change the answers of a version."""
    return to_yaml(spec.model_dump(mode="json"))


def register(task: ResolvedTask, store: Store, run_id: str, prompt_file: Path, flow_run: FlowRun | None = None) -> Version:
    """Register the prompt as a new version of the task's model. No alias moves here; the description follows the decision.

    Args:
        run_id: the MLflow run that the version belongs to.
        prompt_file: the trained prompt.

    Raises:
        Unavailable: the files did not arrive in MLflow's artifact store as they were sent.
    """
    import pandas as pd

    from softprompt_core.serving import Predictor

    folder = write_version_folder(task, prompt_file)
    predictor = Predictor.load(folder)
    example = pd.DataFrame([dict(task.data.input_example)], dtype=object)
    predictor.predict(example)  # a version that cannot answer is not registered
    model = registration.PyfuncModel(folder, _CODE, signature_of(task.spec), example, requirements())
    version = registration.register(
        store,
        model,
        run_id=run_id,
        name=task.name,
        description=UNDECIDED.format(task=task.name),
        tags=lineage(task, predictor.prompt.position, flow_run),
    )
    store.client.update_registered_model(task.name, task.spec.description or f"Soft prompts of the task {task.name}.")
    shutil.rmtree(folder, ignore_errors=True)
    return version


def signature_of(spec: PromptSpec) -> ModelSignature:
    """What a version takes and gives: the columns of the input template with cells of any kind, as training takes them.

    Inferred from a row, a column would have that row's type, and MLflow would refuse what training accepted: 5.5 where the first
    row had 5, "101A" beside 100, an id beyond 64 bits. The predictor checks each cell as training does.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    columns = dict.fromkeys(template_fields(spec.data.input))
    answers = {"prediction": DataType.string} | ({"probability": DataType.double} if spec.is_classification else {})
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), column) for column in columns]),
        outputs=Schema([ColSpec(kind, name) for name, kind in answers.items()]),
    )


def requirements() -> list[str]:
    """Pinned packages that a version needs to answer."""
    # "2.13.0+cpu" names a build that other machines may not find.
    pinned = [f"{name}=={installed_version(name).split('+')[0]}" for name in _REQUIREMENTS]
    return [f"softprompt-lifecycle=={__version__}", *pinned]


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
