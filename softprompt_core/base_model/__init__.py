"""The frozen base language model.

``identity`` names it and imports nothing heavy; ``loading`` brings it into memory, once for all tasks;
``tokens`` and ``label_tree`` turn texts and labels into its token ids.
"""

from softprompt_core.base_model.identity import BaseIdentity, identify, resolve, resolved_dtype

__all__ = ["BaseIdentity", "identify", "resolve", "resolved_dtype"]
