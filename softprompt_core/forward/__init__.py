"""How a soft prompt meets a frozen model.

``plain`` is the readable statement; ``causal`` and ``encoder_decoder`` are the fast paths, equal to it (tests hold that, and
``engine`` checks it on the loaded model before it uses them). ``scoring`` ranks labels, ``generation`` writes text.
"""

from softprompt_core.forward.engine import Engine
from softprompt_core.forward.generation import generate
from softprompt_core.forward.plain import plain_target_logits
from softprompt_core.forward.scoring import label_scores, target_losses

__all__ = ["Engine", "generate", "label_scores", "plain_target_logits", "target_losses"]
