"""The gate report as one HTML page that needs nothing else: styles and figures are in it, and there is no script.

MLflow shows it in a sandboxed frame. Texts of rows, labels and models are other people's words: every one is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from softprompt_core.data import DataChanges
from softprompt_core.errors import Outcome
from softprompt_core.gates import Decision, GateResult
from softprompt_core.markdown import number
from softprompt_core.report.changes import ChangedAnswer, ChangedAnswers, Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN: Mapping[Kind, int] = {"worse": 20, "better": 10, "other": 5}
_KINDS: Mapping[Kind, str] = {"worse": "worse", "better": "better", "other": "different"}
_LONGEST_TEXT = 400
_LONGEST_WORD = 24  # answers that are no longer get narrow columns
_TONES = {Outcome.PROMOTED: "good", Outcome.AWAITING_APPROVAL: "wait"}
_MARKS = {"passed": ("✓", "good"), "failed": ("✗", "bad"), "skipped": ("–", "quiet")}


@dataclass(frozen=True)
class GatePage:
    """What the page shows, in this order.

    Attributes:
        summary: the numbers in one sentence.
        reference: what the candidate's answers are compared with: ``champion``, or ``hard prompt`` for a first version.
        metrics: metric → scorer → value on the test rows. ``slices``: slice → scorer → value of the first metric.
        figures: title → figure; ``comparison`` stands below the gates, others at the end.
        seeds: a heading and a row for each trained seed.
        links: words → address. ``facts``: words → text.
    """

    task: str
    version: int | None
    decision: Decision
    summary: str = ""
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    slices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    slice_rows: Mapping[str, int] = field(default_factory=dict)
    reference: str = "champion"
    changed: ChangedAnswers | None = None
    comparison: Figure | None = None
    curve: Figure | None = None
    seeds: Sequence[Sequence[str]] = ()
    data: DataChanges | None = None
    data_note: str = ""
    tokens: Sequence[tuple[str, Sequence[str], float | None]] = ()
    notes: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def gate_page(page: GatePage) -> str:
    """The whole HTML document."""
    decision = page.decision
    ended = decision.outcome.value.replace("_", " ")
    name = f"{page.task} version {page.version}" if page.version is not None else page.task
    parts = [
        f'<header class="{_TONES.get(decision.outcome, "bad")}"><h1>{escape(name)}: {escape(ended)}</h1>'
        f"<p>{escape(decision.verdict)}</p>{f'<p>{escape(page.summary)}</p>' if page.summary else ''}</header>",
        _section("Why: the gates", _gates(decision)),
        _section("Candidate and the others, with 95 % intervals", _image(page.comparison, "comparison of the scorers")),
        _section("Test rows", _scores("Metric", page.metrics, page.reference)),
        _section("Slices", _scores("Slice", page.slices, page.reference, page.slice_rows)),
        _section(f"Answers that differ from the {page.reference}'s", _changed(page.changed, page.reference)),
        _section("Data since the champion", _data(page.data, page.data_note)),
        _section("Training", _image(page.curve, "learning curve") + _plain_table(page.seeds)),
        _section("Notes", _list(page.notes)),
        _section("What the vectors lie next to", _tokens(page.tokens)),
        _section("Where it comes from", _origin(page.links, page.facts)),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}: {escape(ended)}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(part for part in parts if part) + "\n</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>" if content else ""


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = (), kind: str = "") -> str:
    """A table of cells that are HTML already."""
    right = set(numbers)

    def line(cells: Sequence[str], tag: str) -> str:
        made = (f"<{tag}{' class=n' if place in right else ''}>{cell}</{tag}>" for place, cell in enumerate(cells))
        return f"<tr>{''.join(made)}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div><table class="{kind}"><thead>{line(headings, "th")}</thead><tbody>\n{body}\n</tbody></table></div>'


def _gates(decision: Decision) -> str:
    if not decision.results:
        return "<p>The spec sets no gate.</p>"
    heads = ("", "Gate and what it found", "Candidate", "Reference", "Better by", "Required", "Rows", "Can show")
    rows = [_gate(result, is_part) for is_part, result in decision.lines()]
    # Without any comparison there is nothing to say in these columns.
    kept = [place for place in range(len(heads)) if place < 3 or any(row[place] != "–" for row in rows)]
    table = _table([heads[k] for k in kept], [[row[k] for k in kept] for row in rows], numbers=range(2, len(kept)), kind="gates")
    if "Can show" not in [heads[k] for k in kept]:
        return table
    return table + (
        "<p><small>Small figures under <i>Better by</i>: lower and upper bound, each at the gate's own confidence (95 % where it "
        "sets none). <i>Can show</i>: the smallest true difference that these rows reveal in four of five tests.</small></p>"
    )


def _gate(result: GateResult, is_part: bool) -> list[str]:
    mark, tone = _MARKS[result.status]
    name = f"– {result.slice}" if is_part else result.gate
    ahead = "–" if result.advantage is None else f"{result.advantage + 0.0:+.3g}"
    if result.interval:
        ahead += f"<small>{result.interval[0]:+.3g}<br>{result.interval[1]:+.3g}</small>"
    return [
        f'<b class="{tone}">{mark}</b>',
        f"{escape(name)}<small>{escape(result.reason)}</small>",
        number(result.candidate),
        number(result.reference),
        ahead,
        number(result.required),
        "–" if result.rows is None else str(result.rows),
        "–" if result.detectable is None else f"{result.detectable:.2g}",
    ]


def _scores(what: str, values: Mapping[str, Mapping[str, float]], reference: str, rows: Mapping[str, int] | None = None) -> str:
    if not values:
        return ""
    scorers = list(dict.fromkeys(scorer for by in values.values() for scorer in by))
    old = reference.replace(" ", "_")
    heads = [what, *(["Rows"] if rows else []), *(escape(scorer.replace("_", " ")) for scorer in scorers)]
    compared = "candidate" in scorers and old in scorers
    body = []
    for name, by in values.items():
        cells = [escape(name), *([str(rows.get(name, "–"))] if rows else []), *(number(by.get(scorer)) for scorer in scorers)]
        if compared:
            both = "candidate" in by and old in by
            cells.append(f"{by['candidate'] - by[old] + 0.0:+.4f}" if both else "–")
        body.append(cells)
    heads += ["Change"] if compared else []
    return _table(heads, body, numbers=range(1, len(heads)))


def _changed(changed: ChangedAnswers | None, reference: str) -> str:
    if changed is None:
        return ""
    said = f"<p>{escape(str(changed)[:1].upper() + str(changed)[1:])}.</p>"
    shown = [row for kind, most in _SHOWN.items() for row in changed.of(kind)[:most]]
    if not shown:
        return said
    heads = ("", "Row", "Input", "Gold", escape(reference.capitalize()), "Candidate")
    more = len(changed.rows) - len(shown)
    rest = f"<p>{more} more are in evaluation/examples.json.</p>" if more else ""
    words = max(len(text) for row in shown for text in (row.gold, row.before, row.after)) <= _LONGEST_WORD
    return said + _table(heads, [_changed_row(row) for row in shown], kind="texts words" if words else "texts") + rest


def _changed_row(row: ChangedAnswer) -> list[str]:
    tone = {"worse": "bad", "better": "good", "other": "quiet"}[row.kind]
    texts = (row.input, row.gold, row.before, row.after)
    return [f'<b class="{tone}">{_KINDS[row.kind]}</b>', escape(row.id), *(_text(text) for text in texts)]


def _data(data: DataChanges | None, note: str) -> str:
    said = f"<p>{escape(note)}</p>" if note else ""
    if data is None:
        return said
    counts = [
        [
            escape(s.split),
            *(str(c) if c is not None else "not known" for c in (s.before, s.after, s.added, s.removed, s.relabelled)),
        ]
        for s in data.splits
    ]
    heads = ("Split", "Rows before", "Rows now", "Added", "Removed", "Same input, other answer")
    tables = _table(heads, counts, numbers=range(1, 6))
    if data.labels:
        shares = [
            [escape(label), f"{old:.1%}", f"{new:.1%}", f"{100 * (new - old) + 0.0:+.1f}"]
            for label, (old, new) in data.labels.items()
        ]
        tables += _table(("Label (training rows)", "Share before", "Share now", "Points"), shares, numbers=(1, 2, 3))
    return said + tables


def _plain_table(rows: Sequence[Sequence[str]]) -> str:
    return _table([escape(cell) for cell in rows[0]], [[escape(cell) for cell in row] for row in rows[1:]]) if rows else ""


def _tokens(tokens: Sequence[tuple[str, Sequence[str], float | None]]) -> str:
    rows = [
        [escape(place), " ".join(f"<code>{escape(word)}</code>" for word in words), number(moved)]
        for place, words, moved in tokens
    ]
    return _table(("Vector", "Nearest tokens (cosine)", "Cosine with its start"), rows, numbers=(2,)) if rows else ""


def _origin(links: Mapping[str, str], facts: Mapping[str, str]) -> str:
    rows = [[escape(words), f"<code>{escape(text)}</code>"] for words, text in facts.items()]
    for words, address in links.items():
        # A frame's sandbox may hold links back, so the address is there to be copied as well.
        web = address.startswith(("http://", "https://"))
        shown = escape(address, quote=True)
        rows.append([escape(words), f'<a href="{shown}" target="_blank" rel="noopener">{shown}</a>' if web else shown])
    return _table(("", ""), rows, kind="facts") if rows else ""


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item.replace('`', ''))}</li>" for item in items) + "</ul>" if items else ""


def _image(figure: Figure | None, alt: str) -> str:
    if figure is None:
        return ""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _text(text: str) -> str:
    short = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
    return escape(short).replace("\n", "<br>")


_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #1b1b1b; background: #fff; }
body { max-width: 1100px; margin: 1.2em auto; padding: 0 1em; }
header { border-left: 8px solid; padding: .3em 1em; background: #f6f6f6; }
header.good { border-color: #009e73; } header.wait { border-color: #e69f00; } header.bad { border-color: #d55e00; }
h1 { font-size: 1.4em; margin: .2em 0; } header p { margin: .3em 0; font-size: 1.05em; }
h2 { font-size: 1.1em; margin: 1.6em 0 .4em; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: .5em 0 1em; } th, td { padding: .25em .5em; text-align: left; vertical-align: top; }
th { font-weight: 600; border-bottom: 2px solid #bbb; } td { border-bottom: 1px solid #eee; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
div { overflow-x: auto; } table { font-size: .95em; } small { display: block; color: #555; }
table.gates td:nth-child(2) { min-width: 15em; } table.gates th { vertical-align: bottom; }
table.gates th.n { white-space: normal; }
table.texts { table-layout: fixed; width: 100%; } table.texts td, table.facts td { overflow-wrap: anywhere; }
table.texts th:nth-child(-n+2) { width: 5em; } table.texts th:nth-child(n+4) { width: 20%; }
table.words th:nth-child(n+4) { width: 11%; }
img { max-width: 100%; } b.good { color: #00704f; } b.bad { color: #b34700; } b.quiet { color: #777; }
code { background: #f3f3f3; padding: 0 .25em; border-radius: 3px; font-size: .93em; white-space: pre-wrap; }
"""
