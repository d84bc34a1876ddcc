"""Promotion gates: ``decide(candidate, champion, policy)``."""

from softprompt_core.gates.deciding import decide, gate_in_words
from softprompt_core.gates.decision import Decision, GateResult, Policy

__all__ = ["Decision", "GateResult", "Policy", "decide", "gate_in_words"]
