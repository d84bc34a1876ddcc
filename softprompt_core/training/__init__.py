"""Prompt-tuning training: settings chosen from the data, the loop, optimisers, checkpoints with exact resume."""

from softprompt_core.training.loop import Job, Progress, TrainedPrompt, train_prompt, train_prompts
from softprompt_core.training.rows import Engines, TrainingRows
from softprompt_core.training.settings import Settings, choose_settings

__all__ = [
    "Engines",
    "Job",
    "Progress",
    "Settings",
    "TrainedPrompt",
    "TrainingRows",
    "choose_settings",
    "train_prompt",
    "train_prompts",
]
