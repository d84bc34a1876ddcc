"""Descriptions of MLflow runs and model versions: what a reviewer reads first.

They begin with a plain sentence, because lists in the MLflow UI show raw markdown, and keep within the lengths that MLflow's
databases hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from softprompt_core.errors import Outcome
from softprompt_core.gates import Decision
from softprompt_core.markdown import markdown_table, number

RUN_LIMIT = 8000
"""Characters in a run's tag `mlflow.note.content`."""
VERSION_LIMIT = 5000
"""Characters in a model version's description (a VARCHAR in PostgreSQL and MySQL)."""

_SCORERS = {"candidate": "Candidate", "champion": "Champion", "hard_prompt": "Hard prompt", "majority": "Majority class"}
_LONGEST_SENTENCE = 600


def run_description(
    *,
    task: str,
    outcome: Outcome,
    reason: str,
    decision: Decision | None = None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    headline: Sequence[str] = (),
    slices: Mapping[str, Mapping[str, float]] | None = None,
    changes: Sequence[str] = (),
    lineage: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Markdown for a lifecycle's run, at most ``RUN_LIMIT`` characters.

    Args:
        task: the task's name.
        outcome: how the lifecycle ended.
        reason: one sentence: the decision's verdict, or why there was none.
        decision: the gates' decision, if it came to one.
        metrics: scorer → metric → value on the test rows.
        headline: metrics to show, the most important first.
        slices: scorer → slice → value of the first headline metric.
        changes: what is another than for the champion, a phrase each.
        lineage: what → text or markdown link (version, data, base model, code, Prefect run).
        notes: warnings about the data or the training, a sentence each.
    """
    scores, ended = metrics or {}, outcome.value.replace("_", " ")
    sections = _evidence(scores, headline, slices or {}, decision)
    sections.append(_list("What changed", changes))
    sections.append(_list("Notes", notes))
    sections.append(_list("Lineage", [f"{what}: {text}" for what, text in (lineage or {}).items()]))
    return _fit([f"{task}: {ended}.{_numbers(scores, headline)}", f"**{_shortened(reason)}**"], sections, RUN_LIMIT)


def version_description(
    *,
    task: str,
    decision: Decision,
    metrics: Mapping[str, Mapping[str, float]],
    headline: Sequence[str],
    slices: Mapping[str, Mapping[str, float]] | None = None,
    changes: Sequence[str] = (),
    lineage: Mapping[str, str] | None = None,
    usage: str = "",
) -> str:
    """Markdown for a model version, at most ``VERSION_LIMIT`` characters.

    Args:
        task: the task's name.
        decision: the gates' decision.
        metrics: scorer → metric → value on the test rows.
        headline: metrics to show, the most important first.
        slices: scorer → slice → value of the first headline metric.
        changes: what is another than for the champion, a phrase each.
        lineage: what → text or markdown link (run, data, base model, code).
        usage: Python that loads the version and predicts.
    """
    said = {Outcome.PROMOTED: "all gates passed", Outcome.AWAITING_APPROVAL: "gates passed, waits for approval"}
    sections = _evidence(metrics, headline, slices or {}, decision)
    sections.append(_list("What changed", changes))
    sections.append(_list("Lineage", [f"{what}: {text}" for what, text in (lineage or {}).items()]))
    sections.append(f"### How to use it\n\n```python\n{usage.strip()}\n```\n" if usage else "")
    first = f"Soft prompt for {task}: {said.get(decision.outcome, 'not promoted')}.{_numbers(metrics, headline)}"
    return _fit([first, f"**{_shortened(decision.verdict)}**"], sections, VERSION_LIMIT)


def _numbers(metrics: Mapping[str, Mapping[str, float]], headline: Sequence[str]) -> str:
    """The first headline metric of every scorer, as the end of the first sentence."""
    metric = next(iter(headline), "")
    values = {scorer: number(metrics[scorer][metric]) for scorer in _in_order(metrics) if metric in metrics[scorer]}
    if "candidate" not in values:
        return ""
    others = ", ".join(f"{_named(scorer).lower()} {value}" for scorer, value in values.items() if scorer != "candidate")
    return f" Test {metric} {values['candidate']}{f' ({others})' if others else ''}."


def _evidence(
    metrics: Mapping[str, Mapping[str, float]],
    headline: Sequence[str],
    slices: Mapping[str, Mapping[str, float]],
    decision: Decision | None,
) -> list[str]:
    shown = [metric for metric in headline if any(metric in by for by in metrics.values())]
    gates = decision.gates_table() if decision is not None else ""
    names = list(dict.fromkeys(name for by in slices.values() for name in by))
    return [
        _by_scorer("### Test rows", "Metric", shown, metrics),
        f"### Gates\n\n{gates}" if gates else "",
        _by_scorer(f"### Slices ({headline[0]})" if headline else "### Slices", "Slice", names, slices),
    ]


def _by_scorer(title: str, what: str, names: Sequence[str], values: Mapping[str, Mapping[str, float]]) -> str:
    """A table with one row a name, one column a scorer, and the candidate's change from the champion."""
    if not names:
        return ""
    scorers = _in_order(values)
    compared = "candidate" in values and "champion" in values
    rows = []
    for name in names:
        cells = [name, *(number(values[scorer].get(name)) for scorer in scorers)]
        if compared:
            new, old = values["candidate"].get(name), values["champion"].get(name)
            cells.append("–" if new is None or old is None else f"{new - old + 0.0:+.4f}")
        rows.append(cells)
    headings = [what, *map(_named, scorers), *(["Change from champion"] if compared else [])]
    return f"{title}\n\n{markdown_table(headings, rows, numbers=range(1, len(headings)))}"


def _list(title: str, items: Sequence[str]) -> str:
    return f"### {title}\n\n" + "".join(f"- {item}\n" for item in items) if items else ""


def _in_order(scorers: Iterable[str]) -> list[str]:
    given, known = list(scorers), list(_SCORERS)
    return sorted(given, key=lambda scorer: known.index(scorer) if scorer in known else len(known))


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
