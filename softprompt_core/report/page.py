"""The gate report as one HTML page that needs nothing else: styles and figures are in it, and there is no script.

MLflow shows it in a sandboxed frame.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from softprompt_core.data import DataChanges
from softprompt_core.errors import Outcome
from softprompt_core.evaluation.changes import Kind
from softprompt_core.gates import Assessment, GateResult
from softprompt_core.markdown import number
from softprompt_core.report.rendering import render
from softprompt_core.report.scores import score_rows, shown_metrics

_SHOWN: Mapping[Kind, int] = {"worse": 20, "better": 10, "other": 5}
_KINDS: Mapping[Kind, Mapping[str, str]] = {
    "worse": {"word": "worse", "tone": "bad"},
    "better": {"word": "better", "tone": "good"},
    "other": {"word": "different", "tone": "quiet"},
}
_LONGEST_WORD = 24  # answers that are no longer get narrow columns
_TONES = {Outcome.PROMOTED: "good", Outcome.AWAITING_APPROVAL: "wait"}
_MARKS = {"passed": ("✓", "good"), "failed": ("✗", "bad"), "skipped": ("–", "quiet")}


@dataclass(frozen=True)
class NearTokens:
    """What one vector of the prompt lies next to.

    Attributes:
        vector: its number in the prompt.
        nearest: tokens with their cosine.
        start: its cosine with the vector that training started from; None where that is not known.
    """

    vector: str
    nearest: Sequence[str]
    start: float | None


@dataclass(frozen=True)
class PageDetails:
    """What the page shows beside the assessment.

    Attributes:
        version: None for a candidate that is not registered.
        comparison_png: ``gate_figure`` as PNG. ``curve_png``: the learning curve of the seed that was chosen.
        notes: a sentence each.
        links: name → address. ``facts``: name → text.
    """

    task: str
    version: int | None = None
    comparison_png: bytes | None = None
    curve_png: bytes | None = None
    tokens: Sequence[NearTokens] = ()
    notes: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def gate_page(assessment: Assessment, details: PageDetails) -> str:
    """The whole HTML document."""
    decision, reference = assessment.decision, assessment.reference.replace("_", " ")
    return render(
        "gate_page.html",
        name=f"{details.task} version {details.version}" if details.version is not None else details.task,
        outcome=decision.outcome.value.replace("_", " "),
        tone=_TONES.get(decision.outcome, "bad"),
        decision=decision,
        summary=result_sentence(assessment),
        images={"comparison": _data_url(details.comparison_png), "curve": _data_url(details.curve_png)},
        reference=reference,
        headline=assessment.headline,
        metrics=_metrics(assessment),
        slices=_slices(assessment),
        data_note=assessment.data_note,
        data=_data(assessment.data_changes),
        seeds=_seeds(assessment),
        tokens=[{**vars(token), "start": number(token.start)} for token in details.tokens],
        notes=details.notes,
        links=details.links,
        facts=details.facts,
        **_gates(assessment),
        **_changed(assessment),
    )


def result_sentence(assessment: Assessment) -> str:
    """The candidate against the reference in one sentence; empty where the difference is undefined."""
    advantage, scores = assessment.advantages.get(None), assessment.scores
    if advantage is None:
        return ""
    name, value = assessment.reference, advantage.value
    words = f"{abs(value):.3g} {'better' if value > 0 else 'worse'}" if abs(value) > 1e-12 else "equal"
    return (
        f"Test {assessment.headline} {scores['candidate']:.4g}, {name.replace('_', ' ')} {scores[name]:.4g}: {words}"
        f" ({advantage.lower:+.3g} to {advantage.upper:+.3g}, each bound at {100 * advantage.confidence:g} % confidence,"
        f" {len(assessment.results.candidate)} rows)."
    )


def _gates(assessment: Assessment) -> dict[str, Any]:
    gates: list[dict[str, Any]] = []
    for is_part, result in assessment.decision.lines():
        mark, tone = _MARKS[result.status]
        name = f"– {result.slice}" if is_part else result.gate
        gates.append({"mark": mark, "tone": tone, "name": name, "reason": result.reason, "cells": _gate_cells(result)})
    # Without any comparison there is nothing to say in most columns.
    used = [c for c in _GATE_COLUMNS if c == "Candidate" or any(gate["cells"][c] != ("–",) for gate in gates)]
    rows = [{**gate, "cells": [gate["cells"][column] for column in used]} for gate in gates]
    return {"gates": rows, "gate_columns": used}


_GATE_COLUMNS = ("Candidate", "Reference", "Better by", "Required", "Rows", "Can show")


def _gate_cells(result: GateResult) -> dict[str, tuple[str, ...]]:
    """Column → text, and what stands below it in small letters."""
    bounds = tuple(f"{bound:+.3g}" for bound in result.interval or ())
    return {
        "Candidate": (number(result.candidate),),
        "Reference": (number(result.reference),),
        "Better by": ("–" if result.advantage is None else f"{result.advantage + 0.0:+.3g}", *bounds),
        "Required": (number(result.required),),
        "Rows": ("–" if result.rows is None else str(result.rows),),
        "Can show": ("–" if result.detectable is None else f"{result.detectable:.2g}",),
    }


def _metrics(assessment: Assessment) -> dict[str, Any]:
    scorers = [name.replace("_", " ") for name in assessment.metrics]
    change = ["Change"] if assessment.reference in assessment.metrics else []
    rows = score_rows(shown_metrics(assessment), assessment.metrics, assessment.reference)
    return {"headings": ["Metric", *scorers, *change], "rows": rows}


def _slices(assessment: Assessment) -> dict[str, Any]:
    _, *headings = _metrics(assessment)["headings"]
    sizes = assessment.slice_sizes
    rows = score_rows(list(sizes), assessment.slice_scores, assessment.reference)
    return {"headings": ["Slice", "Rows", *headings], "rows": [[name, sizes[name], *cells] for name, *cells in rows]}


def _changed(assessment: Assessment) -> dict[str, Any]:
    changed, words = assessment.changed, str(assessment.changed)
    shown = [row for kind, most in _SHOWN.items() for row in changed.of(kind)[:most]]
    answers = [text for row in shown for text in (row.gold, row.before, row.after)]
    return {
        "changed_summary": words[:1].upper() + words[1:],
        "changed": shown,
        "changed_left": len(changed.changed) - len(shown),
        "changed_words": max(map(len, answers), default=0) <= _LONGEST_WORD,
        "kinds": _KINDS,
    }


def _data(changes: DataChanges | None) -> dict[str, Any] | None:
    if changes is None:
        return None
    counts = ((s.split, s.before, s.after, s.added, s.removed, s.relabelled) for s in changes.splits)
    return {
        "splits": [["not known" if cell is None else cell for cell in row] for row in counts],
        "labels": [
            (label, f"{old:.1%}", f"{new:.1%}", f"{100 * (new - old) + 0.0:+.1f}") for label, (old, new) in changes.labels.items()
        ],
    }


def _seeds(assessment: Assessment) -> list[Sequence[str]]:
    """The spread over seeds; nothing to say about a single one."""
    seeds = assessment.results.seeds
    return [
        (f"{s.seed}{' (candidate)' if s.chosen else ''}", number(s.validation), number(s.test), str(s.best_step), s.stopped)
        for s in (seeds if len(seeds) > 1 else ())
    ]


def _data_url(png: bytes | None) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}" if png is not None else ""
