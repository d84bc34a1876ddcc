"""The data report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt_core.data.report import DataReport, word_bin_names
from softprompt_core.markdown import markdown_table

_SHOWN = 10


def report_markdown(report: DataReport) -> str:
    """A page that begins with a plain sentence; long lists are cut after ten entries."""
    splits = report.splits
    counts = ", ".join(f"{split.rows} {name}" for name, split in splits.items())
    warnings = f"{len(report.warnings)} warning{'s' * (len(report.warnings) != 1)}" if report.warnings else "no warnings"
    labels = dict.fromkeys(label for split in splits.values() for label in split.classes)
    slices = dict.fromkeys(name for split in splits.values() for name in split.slices)
    sections = [
        f"{counts} rows; {warnings}.",
        _list("Warnings", report.warnings),
        _rows(report),
        _table(
            "Classes",
            ("label", *splits),
            [(label, *(_count_and_share(s.classes.get(label, 0), s.rows) for s in splits.values())) for label in labels],
        ),
        _table(
            "Words an input",
            ("words", *splits),
            [(name, *(split.words[index] for split in splits.values())) for index, name in enumerate(word_bin_names())],
        ),
        _tokens(report),
        _table("Slices", ("slice", *splits), [(name, *(s.slices.get(name, 0) for s in splits.values())) for name in slices]),
        _list("Rows set aside", [str(row) for row in report.bad_rows]),
        _list(
            "Removed because another split holds the same input",
            [str(leak) for leak in report.leakage],
        ),
        _list("Repeated inputs with different targets", [str(conflict) for conflict in report.conflicts]),
        _list("Repeated inputs", [str(duplicate) for duplicate in report.duplicates]),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _rows(report: DataReport) -> str:
    body = [(name, split.read, report.set_aside(name), report.removed(name), split.rows) for name, split in report.splits.items()]
    return _table("Rows", ("split", "read", "set aside", "removed as leaks", "used"), body)


def _tokens(report: DataReport) -> str:
    body = [
        (name, f"{t.mean:.1f}", t.median, t.p95, t.longest, t.limit, f"{t.truncated} ({t.truncated_share:.1%})")
        for name, split in report.splits.items()
        if (t := split.tokens) is not None
    ]
    return _table("Tokens an input", ("split", "mean", "median", "95 %", "longest", "limit", "cut"), body)


def _count_and_share(count: int, rows: int) -> str:
    return f"{count} ({count / max(rows, 1):.1%})"


def _table(title: str, header: Sequence[object], body: Sequence[Sequence[object]]) -> str:
    if not body:
        return ""
    table = markdown_table([str(cell) for cell in header], [[str(cell) for cell in line] for line in body])
    return f"## {title}\n\n{table.rstrip()}"


def _list(title: str, entries: Sequence[str]) -> str:
    if not entries:
        return ""
    more = [f"… and {len(entries) - _SHOWN} more"] if len(entries) > _SHOWN else []
    return f"## {title} ({len(entries)})\n\n" + "\n".join(f"- {' '.join(entry.split())}" for entry in [*entries[:_SHOWN], *more])
