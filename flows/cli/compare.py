"""``softprompt registry compare``: two versions of a task side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.registry import Name
from flows.cli.running import Json

if TYPE_CHECKING:
    from softprompt_core.stages.comparing import Comparison

_ROWS_SHOWN = 20
_LONGEST = 60
Version = Annotated[str, typer.Argument(help="A version number, or an alias such as champion.", show_default=False)]


def compare(name: Name, a: Version, b: Version, json: Json = False) -> None:
    """Two versions: metrics, answers that changed, settings that differ, and what their vectors lie next to.

    Stored answers are compared where both versions answered the same test rows; otherwise it says that they did not.
    """
    from flows.cli.output import print_json
    from softprompt_core.stages import record
    from softprompt_core.stages.comparing import compare as compare_versions

    found = compare_versions(record.client(), name, a, b)
    if json:
        print_json(found.to_json())
    else:
        _print(found)


def _print(found: Comparison) -> None:
    from flows.cli.output import print_table

    a, b = f"v{found.a}", f"v{found.b}"
    print(f"{found.task}: {b} against {a}; {found.rows}")
    for note in found.notes:
        print(f"note: {note}")
    comparable = found.changed is not None
    rows = [
        [
            name,
            _number(x),
            _number(y),
            *([f"{y - x + 0.0:+.4f}" if x is not None and y is not None else "–"] if comparable else []),
        ]
        for name, (x, y) in found.metrics.items()
    ]
    print_table(("metric", a, b, *(["change"] if comparable else [])), rows)
    if found.changed is not None:
        print(f"{found.changed}")
        if found.changed.rows:
            shown = found.changed.rows[:_ROWS_SHOWN]
            print_table(
                ("", "row", "input", "gold", a, b),
                [[r.kind, r.id, *map(_short, (r.input, r.gold, r.before, r.after))] for r in shown],
            )
            if len(found.changed.rows) > len(shown):
                print(f"… and {len(found.changed.rows) - len(shown)} more; --json has them all")
    if found.spec:
        print_table(("spec", a, b), [[key, _short(x), _short(y)] for key, (x, y) in found.spec.items()])
    else:
        print("The specs are the same.")
    if found.vectors is not None:
        best = found.vectors.best_match
        said = f"best match of each {a} vector in {b}: mean cosine {sum(best) / len(best):.3f}"
        if found.vectors.by_place is not None:
            said = f"same place: mean cosine {sum(found.vectors.by_place) / len(found.vectors.by_place):.3f}; {said}"
        print(f"Vectors, {said}")
    if any(found.tokens):
        near = [tokens or () for tokens in found.tokens]
        print_table(
            ("vector", f"{a}: nearest tokens (cosine)", f"{b}: nearest tokens (cosine)"),
            [[str(i), *("  ".join(t[i]) if i < len(t) else "–" for t in near)] for i in range(max(map(len, near)))],
        )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _short(value: Any) -> str:
    text = "–" if value is None else " ".join(str(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
