"""Promotion gates: ``decide(candidate, champion, policy)``, and all that is shown beside a decision: ``assess``."""

from softprompt_core.gates.assessment import Advantage, Assessment, assess
from softprompt_core.gates.deciding import decide
from softprompt_core.gates.decision import Decision, GateResult, Policy

__all__ = ["Advantage", "Assessment", "Decision", "GateResult", "Policy", "assess", "decide"]
