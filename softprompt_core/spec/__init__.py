"""What a user writes: one YAML file a task, read into frozen models."""

from softprompt_core.spec.data import DataSource, DataSpec, FilesSource, TargetSpec
from softprompt_core.spec.gates import GateSpec
from softprompt_core.spec.loading import json_schema, load_each, load_spec, names_spec_file, parse_spec, spec_files
from softprompt_core.spec.models import (
    BaseModelSpec,
    EvaluationSpec,
    PromptConfig,
    PromptSpec,
    ScheduleSpec,
    TrainingConfig,
)
from softprompt_core.spec.yaml_text import read_yaml, to_yaml

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
    "load_each",
    "load_spec",
    "names_spec_file",
    "parse_spec",
    "read_yaml",
    "spec_files",
    "to_yaml",
]
