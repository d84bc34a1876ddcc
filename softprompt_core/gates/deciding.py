"""``decide``: may this candidate become champion? Pure, total and fail-closed: whatever is missing or odd is a failed gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from softprompt_core.errors import Outcome
from softprompt_core.evaluation import Predictions
from softprompt_core.gates.checking import check
from softprompt_core.gates.decision import Decision, GateResult, Policy
from softprompt_core.gates.scorers import Scorers

_NO_BASELINES: Mapping[str, Predictions] = MappingProxyType({})
_NO_FACTS: Mapping[str, float] = MappingProxyType({})


def decide(
    candidate: Predictions,
    champion: Predictions | None,
    policy: Policy,
    baselines: Mapping[str, Predictions] = _NO_BASELINES,
    facts: Mapping[str, float] = _NO_FACTS,
    champion_problem: str | None = None,
) -> Decision:
    """Check every gate of the policy; promotion needs all to pass.

    Nothing is read but the arguments, nothing is raised, and equal arguments give equal decisions.

    Args:
        candidate: the new prompt on the test rows.
        champion: the current champion re-scored on the same rows; None for a first version: gates against the champion are
            skipped then, and at least one other gate must pass.
        policy: gates and approval.
        baselines: ``hard_prompt`` and ``majority`` on the same rows.
        facts: numbers about the candidate itself (``softprompt_core.spec.gates.FACTS``); a gate on a missing one fails.
        champion_problem: why the champion has no answers.
    """
    return apply_gates(Scorers(candidate, champion, baselines, facts, champion_problem), policy)


def apply_gates(scorers: Scorers, policy: Policy) -> Decision:
    """``decide`` for scorers whose metrics are used elsewhere too."""
    results = tuple(check(gate, scorers) for gate in policy.gates)
    passed, verdict = _verdict(results)
    if not passed:
        return Decision(passed=False, outcome=Outcome.REJECTED, verdict=verdict, results=results)
    if policy.approval == "none":
        return Decision(passed=True, outcome=Outcome.PROMOTED, verdict=f"{verdict}.", results=results)
    verdict += "; a person must approve."
    return Decision(passed=True, outcome=Outcome.AWAITING_APPROVAL, verdict=verdict, results=results)


def _verdict(results: Sequence[GateResult]) -> tuple[bool, str]:
    """Whether the gates pass as a whole, and one sentence that says why; without a full stop where they pass."""
    failed = [result for result in results if result.status == "failed"]
    passed = [result for result in results if result.status == "passed"]
    if not results:
        return False, "No gates, no promotion: the spec sets no condition, so nothing can meet it."
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        return False, f"{len(failed)} of {_gates(len(results))} failed: {failed[0].gate}: {failed[0].reason}{more}."
    if not passed:
        return False, "A first version needs at least one gate that does not compare with a champion, and the spec sets none."
    if skipped := len(results) - len(passed):
        return True, f"{_gates(len(passed))} passed, {skipped} skipped because there is no champion to compare with"
    return True, f"{'The only gate' if len(passed) == 1 else f'All {len(passed)} gates'} passed"


def _gates(count: int) -> str:
    return f"{count} gate{'' if count == 1 else 's'}"
