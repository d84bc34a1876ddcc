"""Resolve a spec: read its data, identify its base model, and fingerprint all that decides the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt_core.base_model import BaseIdentity, identify
from softprompt_core.base_model.identity import resolved_dtype
from softprompt_core.data import TaskData, load_task_data, prepare, save_task_data, share_task_data
from softprompt_core.errors import InvalidInput
from softprompt_core.fingerprint import file_digest, fingerprint, library_fingerprint
from softprompt_core.lifecycle.workspace import Workspace
from softprompt_core.spec import PromptSpec
from softprompt_core.spec.gates import metric_problem
from softprompt_core.text_files import require_regular

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Fingerprints:
    """SHA-256 of what a lifecycle starts from.

    Attributes:
        data: every row of every split in the columns that are used.
        spec: what the spec says, wherever its data lie.
        training: what decides the trained prompt: data, base, templates, prompt and training settings, library.
        all: that and what decides about the prompt: evaluation, slices, gates, approval. If it equals that of the last decided
            version, there is nothing to do.
    """

    data: str
    spec: str
    training: str
    all: str


@dataclass(frozen=True)
class ResolvedTask:
    """A task with everything that a lifecycle needs: the spec, the identity of its base, its data, and where its files lie."""

    spec: PromptSpec
    base: BaseIdentity
    fingerprints: Fingerprints
    workspace: Workspace

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def seeds(self) -> range:
        """The seeds to train."""
        first = self.spec.training.seed
        return range(first, first + self.spec.training.seeds)

    @cached_property
    def data(self) -> TaskData:
        """The prepared rows; read from the workspace where this object was sent to another process."""
        return load_task_data(self.workspace.data)

    def __getstate__(self) -> dict[str, Any]:
        # The rows may be large, and lie in the workspace.
        return {field.name: getattr(self, field.name) for field in fields(self)}


def resolve(spec: PromptSpec, frame: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None) -> ResolvedTask:
    """Prepare the data, write them into the workspace, and fingerprint all inputs. Trains and registers nothing.

    Args:
        spec: the task.
        frame: rows from Python in place of the spec's files: one frame, or one a split.

    Raises:
        InvalidInput: spec, data or base are wrong.
        Unavailable: a hub cannot be reached.
    """
    task = examine(spec, frame)
    save_task_data(task.data, task.workspace.data)
    return task


def examine(spec: PromptSpec, frame: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None) -> ResolvedTask:
    """``resolve`` without writing anything: the task is of use in this process alone. Raises as ``resolve``."""
    return _resolved(spec, prepare(spec, frame))


def resolve_all(specs: Sequence[PromptSpec]) -> list[ResolvedTask]:
    """``resolve`` for many specs. Data that several describe alike are read once; nothing is written before all specs are good.

    Raises:
        InvalidInput, Unavailable: as ``resolve`` does.
    """
    prepared: dict[tuple[str, str], TaskData] = {}
    tasks = []
    for spec in specs:
        key = spec.name, spec.data.model_dump_json()
        if key not in prepared:
            prepared[key] = prepare(spec)
        tasks.append(_resolved(spec, prepared[key]))
    saved: dict[int, Path] = {}
    for task in tasks:
        folder = task.workspace.data
        if id(task.data) in saved:
            share_task_data(saved[id(task.data)], folder)
        else:
            save_task_data(task.data, folder)
            saved[id(task.data)] = folder
    return tasks


def spec_fingerprint(spec: PromptSpec) -> str:
    """What the spec says, wherever its data lie."""
    values = spec.model_dump(mode="json")
    return fingerprint({**values, "data": {**values["data"], "source": None}})


def _resolved(spec: PromptSpec, data: TaskData) -> ResolvedTask:
    _check_gates(spec, data.labels)
    base = identify(spec.base_model)
    fingerprints = _fingerprints(spec, base, data)
    task = ResolvedTask(spec, base, fingerprints, Workspace.of(spec.name, fingerprints.training))
    vars(task)["data"] = data  # they are here already
    return task


def _check_gates(spec: PromptSpec, labels: Sequence[str]) -> None:
    """Raises InvalidInput for a gate about a label that the data do not have: it could never be met."""
    for index, gate in enumerate(spec.gates):
        problem = metric_problem(gate.metric, spec.is_classification, labels)
        if problem:
            where = f"spec of `{spec.name}`, gates[{index}].metric"
            raise InvalidInput(problem, where=where, do="correct the gate; labels are named by their words")


def _fingerprints(spec: PromptSpec, base: BaseIdentity, data: TaskData) -> Fingerprints:
    values = spec.model_dump(mode="json")
    # Paths, schedules and texts for people do not change a result; the content behind a path does.
    prompt = {**values["prompt"], "file": _prompt_file_digest(spec)}
    templates = {key: values["data"][key] for key in ("input", "target", "max_input_tokens")}
    if not spec.is_classification:
        templates["max_new_tokens"] = spec.evaluation.max_new_tokens  # longer answers are cut to it before training
    model = {"fingerprint": base.fingerprint, "dtype": resolved_dtype(spec.base_model)}
    settings = {"prompt": prompt, "training": values["training"]}
    training = fingerprint([data.fingerprint, templates, model, settings, library_fingerprint()])
    deciding = {key: values[key] for key in ("evaluation", "gates", "approval")}
    everything = fingerprint([training, deciding, values["data"]["slices"]])
    return Fingerprints(data.fingerprint, spec_fingerprint(spec), training, everything)


def _prompt_file_digest(spec: PromptSpec) -> str | None:
    if spec.prompt.file is None:
        return None
    path = Path(spec.prompt.file)
    if path.is_dir():
        from softprompt_core.soft_prompt import vectors_file  # needs torch

        path = vectors_file(path)
    where = f"prompt.file: {path}"
    try:
        require_regular(path)
        return file_digest(path)
    except FileNotFoundError:
        raise InvalidInput("no such file", where=where, do="check the path") from None
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error}", where=where, do="check the file and its permissions") from None
