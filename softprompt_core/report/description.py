"""Descriptions of MLflow runs and model versions: what a reviewer reads first.

They begin with a plain sentence, because lists in the MLflow UI show raw markdown, and keep within the lengths that MLflow's
databases hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from softprompt_core.errors import Outcome
from softprompt_core.gates import Assessment
from softprompt_core.markdown import markdown_table, number
from softprompt_core.report.scores import Scores, score_rows, shown_metrics

RUN_LIMIT = 8000
"""Characters in a run's tag `mlflow.note.content`."""
VERSION_LIMIT = 5000
"""Characters in a model version's description (a VARCHAR in PostgreSQL and MySQL)."""

_SCORERS = {"candidate": "Candidate", "champion": "Champion", "hard_prompt": "Hard prompt", "majority": "Majority class"}
_PASSED = {Outcome.PROMOTED: "all gates passed", Outcome.AWAITING_APPROVAL: "gates passed, waits for approval"}
_LONGEST_SENTENCE = 600


def run_description(
    *,
    task: str,
    outcome: Outcome,
    reason: str,
    assessment: Assessment | None = None,
    changes: Sequence[str] = (),
    lineage: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Markdown for a lifecycle's run, at most ``RUN_LIMIT`` characters.

    Args:
        outcome: how the lifecycle ended.
        reason: one sentence: the decision's verdict, or why there was none.
        assessment: None where it did not come to one.
        changes: what differs from the champion, a phrase each.
        lineage: what → text or markdown link (version, data, base model, code, Prefect run).
        notes: warnings about the data or the training, a sentence each.
    """
    sections = [*_tables(assessment), _list("What changed", changes), _list("Notes", notes), _lineage(lineage or {})]
    first = f"{task}: {outcome.value.replace('_', ' ')}.{_numbers(assessment)}"
    return _fit([first, f"**{_shortened(reason)}**"], sections, RUN_LIMIT)


def version_description(
    *,
    task: str,
    assessment: Assessment,
    changes: Sequence[str] = (),
    lineage: Mapping[str, str] | None = None,
    usage: str = "",
) -> str:
    """Markdown for a model version, at most ``VERSION_LIMIT`` characters.

    Args:
        changes: what differs from the champion, a phrase each.
        lineage: what → text or markdown link (run, data, base model, code).
        usage: Python that loads the version and predicts.
    """
    decision = assessment.decision
    sections = [*_tables(assessment), _list("What changed", changes), _lineage(lineage or {})]
    sections.append(f"### How to use it\n\n```python\n{usage.strip()}\n```\n" if usage else "")
    first = f"Soft prompt for {task}: {_PASSED.get(decision.outcome, 'not promoted')}.{_numbers(assessment)}"
    return _fit([first, f"**{_shortened(decision.verdict)}**"], sections, VERSION_LIMIT)


def _numbers(assessment: Assessment | None) -> str:
    """The headline metric of every scorer, as the end of the first sentence."""
    scores = assessment.scores if assessment is not None else {}
    if assessment is None or "candidate" not in scores:
        return ""
    others = ", ".join(f"{_named(name).lower()} {number(value)}" for name, value in scores.items() if name != "candidate")
    return f" Test {assessment.headline} {number(scores['candidate'])}{f' ({others})' if others else ''}."


def _tables(assessment: Assessment | None) -> list[str]:
    if assessment is None:
        return []
    gates, slices = assessment.decision.gates_table(), assessment.slice_scores
    names = list(dict.fromkeys(name for by_slice in slices.values() for name in by_slice))
    return [
        _score_table("Test rows", "Metric", shown_metrics(assessment), assessment.metrics),
        f"### Gates\n\n{gates}" if gates else "",
        _score_table(f"Slices ({assessment.headline})", "Slice", names, slices),
    ]


def _score_table(title: str, first: str, names: Sequence[str], scores: Scores) -> str:
    if not names:
        return ""
    headings = [first, *map(_named, scores), *(["Change from champion"] if "champion" in scores else [])]
    table = markdown_table(headings, score_rows(names, scores, "champion"), numbers=range(1, len(headings)))
    return f"### {title}\n\n{table}"


def _lineage(lineage: Mapping[str, str]) -> str:
    return _list("Lineage", [f"{name}: {text}" for name, text in lineage.items()])


def _list(title: str, items: Sequence[str]) -> str:
    return f"### {title}\n\n" + "".join(f"- {item}\n" for item in items) if items else ""


def _named(scorer: str) -> str:
    return _SCORERS.get(scorer, scorer)


def _shortened(sentence: str) -> str:
    return sentence if len(sentence) <= _LONGEST_SENTENCE else sentence[: _LONGEST_SENTENCE - 1] + "…"


def _fit(beginning: Sequence[str], sections: Sequence[str], limit: int) -> str:
    """Everything, or what remains after the longest sections were left out."""
    kept = [section.rstrip() for section in sections if section]
    note: list[str] = []
    while len(text := "\n\n".join([*beginning, *note, *kept]) + "\n") > limit and kept:
        kept.remove(max(kept, key=len))
        note = ["Shortened to fit: the full report is among the run's artifacts."]
    return text
