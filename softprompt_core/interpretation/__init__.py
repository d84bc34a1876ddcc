"""What soft vectors look like from outside: the vocabulary near them, how far they moved, and how two prompts compare.

A warning that belongs to every use: prompts that do quite different tasks can lie next to the same words (Khashabi et al., 2022,
"Prompt Waywardness"), so near tokens hint at an initialisation rather than explain what a prompt does.
"""

from softprompt_core.interpretation.displacement import Displacement, displacement
from softprompt_core.interpretation.similarity import Similarity, similarity
from softprompt_core.interpretation.tokens import NearToken, nearest_tokens

__all__ = ["Displacement", "NearToken", "Similarity", "displacement", "nearest_tokens", "similarity"]
