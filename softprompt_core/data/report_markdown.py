"""The data report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from softprompt_core.data.report import WORD_BINS, DataReport, RepeatedInput
from softprompt_core.markdown import markdown_table

_SHOWN = 10


def markdown(report: DataReport) -> str:
    """A page that begins with a plain sentence; long lists are cut after ten entries."""
    counts = ", ".join(f"{split.rows} {name}" for name, split in report.splits.items())
    worries = f"{len(report.warnings)} warning{'s' * (len(report.warnings) != 1)}" if report.warnings else "no warnings"
    sections = [f"{counts} rows; {worries}.", _list("Warnings", report.warnings), _rows(report), _classes(report), _words(report)]
    sections += [_tokens(report), _slices(report)]
    sections.append(_list("Rows set aside", (f"{bad}" for bad in report.bad_rows)))
    sections.append(
        _list(
            "Removed because another split holds the same input",
            (f"{k.id} from {k.removed_from}: {k.as_id} in {k.stands_in}" for k in report.leakage),
        )
    )
    sections.append(_list("Repeated inputs with different targets", (_repeated(r) for r in report.conflicts)))
    sections.append(_list("Repeated inputs", (_repeated(r) for r in report.duplicates)))
    return "\n\n".join(section for section in sections if section) + "\n"


def _rows(report: DataReport) -> str:
    set_aside = {name: sum(bad.id.startswith(f"{name}/") for bad in report.bad_rows) for name in report.splits}
    removed = {name: sum(leak.removed_from == name for leak in report.leakage) for name in report.splits}
    body = [
        (name, "made from train" if split.rows_read is None else split.rows_read, set_aside[name], removed[name], split.rows)
        for name, split in report.splits.items()
    ]
    return _table("Rows", ("split", "read", "set aside", "removed as leaks", "used"), body)


def _classes(report: DataReport) -> str:
    labels = dict.fromkeys(label for split in report.splits.values() for label in split.classes)
    body = [
        (label, *(f"{s.classes.get(label, 0)} ({s.classes.get(label, 0) / max(s.rows, 1):.1%})" for s in report.splits.values()))
        for label in labels
    ]
    return _table("Classes", ("label", *report.splits), body)


def _words(report: DataReport) -> str:
    lower = (1, *(end + 1 for end in WORD_BINS))
    bins = [f"{low} to {high}" for low, high in zip(lower, WORD_BINS, strict=False)] + [f"{lower[-1]} or more"]
    body = [(name, *(split.words[place] for split in report.splits.values())) for place, name in enumerate(bins)]
    return _table("Words an input", ("words", *report.splits), body)


def _tokens(report: DataReport) -> str:
    body = [
        (name, f"{t.mean:.1f}", t.median, t.p95, t.longest, t.limit, f"{t.truncated} ({t.truncated_share:.1%})")
        for name, split in report.splits.items()
        if (t := split.tokens) is not None
    ]
    return _table("Tokens an input", ("split", "mean", "median", "95 %", "longest", "limit", "cut"), body)


def _slices(report: DataReport) -> str:
    names = dict.fromkeys(name for split in report.splits.values() for name in split.slices)
    return _table(
        "Slices", ("slice", *report.splits), [(n, *(s.slices.get(n, 0) for s in report.splits.values())) for n in names]
    )


def _table(title: str, header: Sequence[object], body: Sequence[Sequence[object]]) -> str:
    if not body:
        return ""
    table = markdown_table([str(cell) for cell in header], [[str(cell) for cell in line] for line in body])
    return f"## {title}\n\n{table.rstrip()}"


def _list(title: str, entries: Iterable[str]) -> str:
    found = list(entries)
    if not found:
        return ""
    more = [f"… and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return f"## {title} ({len(found)})\n\n" + "\n".join(f"- {' '.join(entry.split())}" for entry in [*found[:_SHOWN], *more])


def _repeated(found: RepeatedInput) -> str:
    return f"{found.split}: {', '.join(found.ids[:_SHOWN])} → {' / '.join(found.targets)}"
