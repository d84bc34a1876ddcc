"""What a user writes: one YAML file a task, read into frozen models."""

from softprompt_core.spec.gates import GateSpec
from softprompt_core.spec.loading import json_schema, load_spec, parse_spec, spec_files
from softprompt_core.spec.models import (
    BaseModelSpec,
    DataSource,
    DataSpec,
    EvaluationSpec,
    FilesSource,
    PromptConfig,
    PromptSpec,
    ScheduleSpec,
    TargetSpec,
    TrainingConfig,
)

__all__ = [
    "BaseModelSpec",
    "DataSource",
    "DataSpec",
    "EvaluationSpec",
    "FilesSource",
    "GateSpec",
    "PromptConfig",
    "PromptSpec",
    "ScheduleSpec",
    "TargetSpec",
    "TrainingConfig",
    "json_schema",
    "load_spec",
    "parse_spec",
    "spec_files",
]
