"""Prompt-tuning training: settings chosen from the data, the loop, optimisers, checkpoints with exact resume."""

from softprompt_core.training.loop import Progress, TrainedPrompt, TrainingJob, train_prompt, train_prompts
from softprompt_core.training.rows import TrainingEngines, TrainingRows
from softprompt_core.training.settings import TrainingSettings, choose_settings

__all__ = [
    "Progress",
    "TrainedPrompt",
    "TrainingEngines",
    "TrainingJob",
    "TrainingRows",
    "TrainingSettings",
    "choose_settings",
    "train_prompt",
    "train_prompts",
]
