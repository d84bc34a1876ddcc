"""First stage: read the data, identify the base, and name everything that decides the result by fingerprints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt_core.base_model import BaseIdentity, identify
from softprompt_core.data import TaskData, prepare, save_task_data, share_task_data
from softprompt_core.fingerprint import fingerprint, library_fingerprint
from softprompt_core.spec import PromptSpec
from softprompt_core.stages.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd


@dataclass(frozen=True)
class Inputs:
    """What a lifecycle starts from.

    Attributes:
        training: fingerprint of what decides the trained prompt: data, base, templates, prompt and training settings, library.
        whole: fingerprint of that and of what decides about it: baselines, slices, gates, approval. Equal to that of the last
            decided version means that there is nothing to do.
    """

    folder: str
    base: BaseIdentity
    data: str
    spec: str
    training: str
    whole: str

    @property
    def workspace(self) -> Workspace:
        return Workspace(Path(self.folder))


def gather(spec: PromptSpec, frame: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None) -> Inputs:
    """Prepare the data, write it into the workspace, and fingerprint all inputs. Trains and registers nothing.

    Raises:
        InvalidInput: spec, data or base are wrong.
        Unavailable: a hub cannot be reached.
    """
    data = prepare(spec, frame)
    inputs = _named(spec, data)
    save_task_data(data, inputs.workspace.data)
    return inputs


def gather_all(specs: Sequence[PromptSpec]) -> list[Inputs]:
    """``gather`` for many specs: data that several describe alike are read once, and written when all specs are known to be good.

    Raises:
        InvalidInput, Unavailable: as ``gather`` does.
    """
    prepared: dict[tuple[str, str], TaskData] = {}
    found = []
    for spec in specs:
        alike = spec.name, spec.data.model_dump_json()
        if alike not in prepared:
            prepared[alike] = prepare(spec)
        found.append((_named(spec, prepared[alike]), prepared[alike]))
    written: dict[int, Path] = {}
    for inputs, data in found:
        place = inputs.workspace.data
        if id(data) in written:
            share_task_data(written[id(data)], place)
        else:
            save_task_data(data, place)
            written[id(data)] = place
    return [inputs for inputs, _ in found]


def _named(spec: PromptSpec, data: TaskData) -> Inputs:
    base = identify(spec.base_model)
    written = spec.model_dump(mode="json")
    # Paths, schedules and texts for people do not change a result; the content behind a path does, and is in `data`.
    decisive = {key: written[key] for key in ("prompt", "training")}
    decisive["prompt"] = {**decisive["prompt"], "file": _file_content(spec)}
    templates = {key: written["data"][key] for key in ("input", "target", "max_input_tokens")}
    if not spec.is_classification:
        templates["max_new_tokens"] = spec.evaluation.max_new_tokens  # longer answers are cut to it before training
    model = {"fingerprint": base.fingerprint, "dtype": spec.base_model.dtype}
    training = fingerprint([data.fingerprint, templates, model, decisive, library_fingerprint()])
    deciding = {key: written[key] for key in ("evaluation", "gates", "approval")}
    whole = fingerprint([training, deciding, written["data"]["slices"]])
    return Inputs(
        folder=str(Workspace.of(spec.name, training).folder),
        base=base,
        data=data.fingerprint,
        spec=spec_fingerprint(spec),
        training=training,
        whole=whole,
    )


def spec_fingerprint(spec: PromptSpec) -> str:
    """What the spec says, wherever its data lie."""
    written = spec.model_dump(mode="json")
    return fingerprint({**written, "data": {**written["data"], "source": None}})


def _file_content(spec: PromptSpec) -> str | None:
    from softprompt_core.errors import InvalidInput
    from softprompt_core.fingerprint import file_digest

    if spec.prompt.file is None:
        return None
    try:
        return file_digest(spec.prompt.file)
    except OSError:
        raise InvalidInput("no such file", where=f"prompt.file: {spec.prompt.file}", do="check the path") from None
