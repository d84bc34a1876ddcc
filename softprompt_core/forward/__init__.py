"""How a soft prompt meets a frozen model.

``plain`` is the readable reference. ``engine`` gives the same numbers fast (tests hold that, and each loaded model is checked
before use): ``layout`` packs rows, ``prompts`` and ``input_cache`` keep keys and values that need not be computed again,
``kv_cache`` continues from them, ``logit_selection`` computes the logits that are needed, ``recomputing`` trades time for memory.
``ranking`` scores labels, ``losses`` gold answers, ``generation`` writes text.
"""

from softprompt_core.forward.engine import Engine
from softprompt_core.forward.generation import generate
from softprompt_core.forward.losses import target_losses
from softprompt_core.forward.plain import plain_target_logits
from softprompt_core.forward.prompts import Prompts
from softprompt_core.forward.ranking import label_scores, rank_labels

__all__ = ["Engine", "Prompts", "generate", "label_scores", "plain_target_logits", "rank_labels", "target_losses"]
