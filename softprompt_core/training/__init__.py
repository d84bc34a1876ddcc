"""Prompt-tuning training: settings chosen from the data, the loop, optimisers, checkpoints with exact resume."""

from softprompt_core.training.loop import Progress, TrainedPrompt, TrainingRows, train_prompt
from softprompt_core.training.settings import Settings, choose_settings

__all__ = ["Progress", "Settings", "TrainedPrompt", "TrainingRows", "choose_settings", "train_prompt"]
