"""How a soft prompt meets a frozen model.

``plain`` is the readable statement. ``engine`` is its fast equal (tests hold that, and the loaded model is checked before use):
``layout`` packs rows, ``prompts`` and ``contexts`` keep what need not be computed again, ``memory`` goes on from it, ``head``
computes the logits that are asked for, ``recomputing`` trades time for memory. ``ranking`` scores labels,
``losses`` gold answers, ``generation`` writes text.
"""

from softprompt_core.forward.engine import Engine
from softprompt_core.forward.generation import generate
from softprompt_core.forward.losses import target_losses
from softprompt_core.forward.plain import plain_target_logits
from softprompt_core.forward.prompts import Prompts
from softprompt_core.forward.ranking import label_scores, rank_labels

__all__ = ["Engine", "Prompts", "generate", "label_scores", "plain_target_logits", "rank_labels", "target_losses"]
