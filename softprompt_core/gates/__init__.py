"""Promotion gates: ``decide(candidate, champion, policy)``."""

from softprompt_core.gates.deciding import decide
from softprompt_core.gates.decision import Decision, GateResult, Policy
from softprompt_core.gates.wording import gate_in_words

__all__ = ["Decision", "GateResult", "Policy", "decide", "gate_in_words"]
