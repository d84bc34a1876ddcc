"""``PromptSpec`` and its parts: frozen, unknown keys refused, every field documented (the JSON Schema is made from here)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from softprompt_core.errors import closest
from softprompt_core.spec.data import DataSpec, template_fields
from softprompt_core.spec.frozen import Frozen
from softprompt_core.spec.gates import EVERY_SLICE, GateSpec, metric_problem
from softprompt_core.spec.monitor import MonitorSpec


class BaseModelSpec(Frozen):
    """The frozen language model."""

    id: str = "bundled"
    """`bundled`, a local folder, or a Hugging Face model id."""
    revision: str | None = None
    """Commit or tag of a hub model. Pin a commit: without one, a changed model changes every result."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the frozen weights. `auto`: bfloat16 on a GPU that has it, else float32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where it runs. `auto`: the best one present."""
    device_map: Literal["auto", "balanced", "sequential"] | dict[str, int | str] | None = None
    """For a base that one device cannot hold: how its layers are spread, as in transformers. Layers may lie on `disk`."""
    quantization: Literal["int8", "nf4"] | None = None
    """Quantise the frozen weights when loading (bitsandbytes). A prompt belongs to the quantised base and to no other."""


def _from_id(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


BaseOrId = Annotated[BaseModelSpec, BeforeValidator(_from_id, json_schema_input_type=str | BaseModelSpec)]


class PromptConfig(Frozen):
    """The soft prompt itself."""

    length: int = Field(20, ge=1, le=1000)
    """Number of vectors. Little is gained past 20; prompts of one length batch well."""
    init: Literal["labels", "vocabulary", "text", "uniform", "champion", "file"] = "labels"
    """Where the vectors start. `labels`: the label words' embeddings, filled up with frequent vocabulary."""
    text: str | None = None
    """For `init: text`: the words to start from."""
    file: str | None = None
    """For `init: file`: a soft prompt (`.safetensors`), a `.npy` matrix, or a PEFT adapter of prompt tuning (file or folder)."""
    position: Literal["auto", "prefix", "suffix"] = "auto"
    """Before or after the input. `auto`: suffix for causal models (the input's keys and values are then computed
    once), prefix for encoder–decoder models."""

    @model_validator(mode="after")
    def _init_has_its_source(self) -> Self:
        for kind in ("text", "file"):
            if (self.init == kind) != (getattr(self, kind) is not None):
                raise ValueError(f"`{kind}` and `init: {kind}` go together")
        return self


class TrainingConfig(Frozen):
    """Nothing here needs to be set."""

    seeds: int = Field(1, ge=1, le=20)
    """How many prompts to train from different seeds; the best on validation is the candidate."""
    seed: int = 0
    """The first seed."""
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    """`adafactor` is the paper's: second moment not factored, no parameter scaling, weight decay not multiplied by the rate."""
    learning_rate: Annotated[float, Field(gt=0, le=1e6)] | Literal["auto"] = "auto"
    """`auto`: in proportion to the size of the base's embeddings for AdamW, the paper's 0.3 for Adafactor."""
    max_steps: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Upper bound of optimiser steps. `auto`: from the number of rows; early stopping usually ends sooner."""
    batch_size: int = Field(32, ge=1)
    """Rows a step."""
    patience: int = Field(6, ge=1)
    """Validation checks without improvement before training stops."""
    eval_every: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Steps between two validation checks."""
    weight_decay: float = Field(0.0, ge=0)
    """Pulls the vectors to zero; the paper's Adafactor uses 1e-5."""
    warmup_steps: int = Field(10, ge=0)
    """Steps over which the learning rate rises from zero."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients longer than this are shortened."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third more time."""


class EvaluationSpec(Frozen):
    """What stands beside the soft prompt, and how text is generated."""

    hard_prompts: tuple[str, ...] = ()
    """Hand-written prompts to beat: templates with `{input}`, like `{input}\\nSentiment:`. The best on validation
    counts. Default: two that are made from the labels."""
    max_new_tokens: int = Field(64, ge=1)
    """Generation: longest answer in tokens."""
    num_beams: int = Field(1, ge=1)
    """Generation: 1 is greedy."""

    @field_validator("hard_prompts")
    @classmethod
    def _have_input(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in value:
            if template_fields(prompt) != ["input"]:
                raise ValueError(f"hard prompt {prompt!r} must contain {{input}} once and no other column")
        return value


class ScheduleSpec(Frozen):
    """When to retrain."""

    cron: str
    """Five fields: minute, hour, day of month, month, day of week."""
    timezone: str = "UTC"
    """IANA name, for instance `Europe/Berlin`."""

    @field_validator("cron")
    @classmethod
    def _names_a_time(cls, value: str) -> str:
        from cronsim import CronSim

        if len(value.split()) != 5:
            raise ValueError(f"cron {value!r} must have five fields: minute hour day month weekday")
        try:
            first = next(CronSim(value, datetime(2000, 1, 1, tzinfo=UTC)), None)
        except Exception as error:  # whatever the parser raises, it is the text that is no time
            raise ValueError(f"cron {value!r} names no time ({str(error).lower()}); write it as in `0 3 * * 1`") from None
        if first is None:
            raise ValueError(f"cron {value!r} names a day that no year has")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        from zoneinfo import available_timezones

        zones = available_timezones()
        if value not in zones:
            close = closest(value, zones, likeness=0.6)
            hint = f"did you mean {close}?" if close else "use an IANA name such as Europe/Berlin"
            raise ValueError(f"unknown time zone {value!r}; {hint}")
        return value


class PromptSpec(Frozen):
    """One task: its data, its soft prompt, how it is trained, and what it must reach to be promoted."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,99}$")
    """The task's name everywhere: registered model, experiment, deployment. Lower case letters, digits, `_ . -`."""
    description: str = ""
    """One or two sentences for the reviewer."""
    base_model: BaseOrId = BaseModelSpec()
    """The frozen model; `bundled` or `{id: …, revision: …}`."""
    data: DataSpec
    """Rows and templates."""
    prompt: PromptConfig = PromptConfig()
    """The soft prompt."""
    training: TrainingConfig = TrainingConfig()
    """Nothing here needs to be set."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """Baselines and generation settings."""
    gates: tuple[GateSpec, ...] = ()
    """Conditions for promotion; all must pass. None: never promoted."""
    approval: Literal["none", "required"] = "none"
    """`required`: a person promotes after the gates have passed."""
    approval_expires_days: int = Field(14, ge=1, le=3650)
    """Days within which the person must decide; after that the task has to be run again."""
    monitor: MonitorSpec = MonitorSpec()
    """How the champion is watched."""
    schedule: ScheduleSpec | None = None
    """When to retrain; used by deployments."""

    @model_validator(mode="after")
    def _gates_fit(self) -> Self:
        if EVERY_SLICE in self.data.slices:
            raise ValueError(f"data.slices: {EVERY_SLICE!r} means every slice in a gate and cannot be a slice's name")
        for index, gate in enumerate(self.gates):
            problem = self._gate_problem(gate)
            if problem:
                raise ValueError(f"gates[{index}]: {problem}")
        return self

    def _gate_problem(self, gate: GateSpec) -> str | None:
        """Why a gate could never be met by this task, as far as the spec alone tells."""
        slices, labels = self.data.slices, self.data.target.labels
        if gate.slice == EVERY_SLICE and not slices:
            return "means every slice, and data.slices defines none"
        if gate.slice not in (None, EVERY_SLICE, *slices):
            close = closest(str(gate.slice), slices)
            hint = f"; did you mean `{close}`?" if close else ""
            known = ", ".join(slices) or "none are defined"
            return f"names the slice {gate.slice!r}; slices under data.slices: {known}{hint}"
        if gate.metric == "seed_spread" and self.training.seeds < 2:
            return "`seed_spread` compares seeds; set training.seeds to 2 or more"
        if gate.versus == "majority" and not self.is_classification:
            return "compares with the majority class, but the task generates text"
        if gate.versus == "majority" and gate.metric in ("loss", "ece"):
            return f"the majority class is an answer without probabilities and has no `{gate.metric}` to compare with"
        return metric_problem(gate.metric, self.is_classification, list(labels.values()) if labels is not None else None)

    @property
    def is_classification(self) -> bool:
        return self.data.target.column is not None
