"""``softprompt registry compare``: two versions of a task side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import Json, Name

if TYPE_CHECKING:
    from softprompt_core.operations.compare import Comparison

_ROWS_SHOWN = 20
_LONGEST = 60
Version = Annotated[str, typer.Argument(help="A version number, or an alias such as champion.", show_default=False)]


def compare(name: Name, a: Version, b: Version, json: Json = False) -> None:
    """Two versions: metrics, answers that changed, settings that differ, and what their vectors lie next to.

    Stored answers are compared where both versions answered the same test rows; otherwise it says that they did not.
    """
    from flows.cli.output import print_json
    from softprompt_core.operations.compare import compare as compare_versions
    from softprompt_core.store.connection import Store

    comparison = compare_versions(Store.connect(), name, a, b)
    if json:
        print_json(comparison.model_dump(mode="json"))
    else:
        _print(comparison)


def _print(comparison: Comparison) -> None:
    from flows.cli.output import print_table

    a, b = f"v{comparison.a}", f"v{comparison.b}"
    print(f"{comparison.task}: {b} against {a}; {comparison.rows}")
    for note in comparison.notes:
        print(f"note: {note}")
    _print_metrics(comparison, a, b)
    _print_changes(comparison, a, b)
    if comparison.spec:
        print_table(("spec", a, b), [[key, _short(x), _short(y)] for key, (x, y) in comparison.spec.items()])
    else:
        print("The specs are the same.")
    if comparison.vectors is not None:
        best = comparison.vectors.best_match
        message = f"best match of each {a} vector in {b}: mean cosine {sum(best) / len(best):.3f}"
        if same_place := comparison.vectors.by_place:
            message = f"same place: mean cosine {sum(same_place) / len(same_place):.3f}; {message}"
        print(f"Vectors, {message}")
    if any(comparison.tokens):
        nearest = [tokens or () for tokens in comparison.tokens]
        rows = [
            [str(i), *("  ".join(tokens[i]) if i < len(tokens) else "–" for tokens in nearest)]
            for i in range(max(map(len, nearest)))
        ]
        print_table(("vector", f"{a}: nearest tokens (cosine)", f"{b}: nearest tokens (cosine)"), rows)


def _print_metrics(comparison: Comparison, a: str, b: str) -> None:
    from flows.cli.output import print_table

    headings = ["metric", a, b]
    rows = [[metric, _number(x), _number(y)] for metric, (x, y) in comparison.metrics.items()]
    if comparison.changed is not None:  # both answered the same rows
        headings.append("change")
        for row, (x, y) in zip(rows, comparison.metrics.values(), strict=True):
            row.append(f"{y - x + 0.0:+.4f}" if x is not None and y is not None else "–")
    print_table(headings, rows)


def _print_changes(comparison: Comparison, a: str, b: str) -> None:
    from flows.cli.output import print_table

    if comparison.changed is None:
        return
    print(f"{comparison.changed}")
    rows = comparison.changed.changed
    if rows:
        cells = [[r.kind, r.id, *map(_short, (r.input, r.gold, r.before, r.after))] for r in rows[:_ROWS_SHOWN]]
        print_table(("", "row", "input", "gold", a, b), cells)
    if len(rows) > _ROWS_SHOWN:
        print(f"… and {len(rows) - _ROWS_SHOWN} more; --json has them all")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _short(value: Any) -> str:
    text = "–" if value is None else " ".join(str(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
