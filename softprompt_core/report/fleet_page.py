"""The fleet as one HTML page that needs nothing else: no script, no file beside it, every text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Tone = Literal["good", "wait", "bad", "quiet", ""]


@dataclass(frozen=True)
class Cell:
    """``text`` with a colour, a smaller second line, and an address if it is a web address."""

    text: str
    note: str = ""
    tone: Tone = ""
    link: str = ""


def fleet_page(headings: Sequence[str], rows: Sequence[Sequence[Cell]], *, summary: str, made: str) -> str:
    """The whole HTML document.

    Args:
        rows: one a task, those that somebody should look at first; a cell for each heading.
        summary: the numbers in one sentence. ``made``: where the rows are from and when.
    """
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>" if rows else "<p>No task yet.</p>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Soft prompts</title>\n'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head>\n<body><h1>Soft prompts</h1>\n<p>{escape(summary)}</p>\n"
        f"<div>{table}</div>\n<footer>{escape(made)}</footer></body></html>\n"
    )


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.link.startswith(("http://", "https://")):  # another scheme could run something
        text = f'<a href="{escape(cell.link, quote=True)}">{text}</a>'
    if cell.tone:
        text = f'<b class="{cell.tone}">{text}</b>'
    return f"<td>{text}{f'<small>{escape(cell.note)}</small>' if cell.note else ''}</td>"


_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; color: #1b1b1b; background: #fff; }
body { margin: 1.2em auto; padding: 0 1em; max-width: 1300px; }
h1 { font-size: 1.4em; margin: .2em 0; } div { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .8em 0; font-size: .95em; }
th, td { padding: .3em .6em; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; border-bottom: 2px solid #bbb; position: sticky; top: 0; background: #fff; white-space: nowrap; }
td { border-bottom: 1px solid #eee; } td:first-child { min-width: 9em; } tr:hover td { background: #f6f6f6; }
td:nth-child(n+2):nth-child(-n+5) { white-space: nowrap; }
small { display: block; font-weight: normal; color: #555; } footer { color: #555; margin: 1em 0; } a { color: #0b5cad; }
b { font-weight: 600; } b.good { color: #00704f; } b.wait { color: #8a5a00; } b.bad { color: #b34700; } b.quiet { color: #777; }
b a { color: inherit; }
"""
