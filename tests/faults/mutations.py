"""Alterations of the text of a spec."""

from __future__ import annotations

import random
from collections.abc import Callable

PIECES = [": ", "\n", "- ", "[", "{", "}", '"', "'", "&a ", "*a", "!!int ", "!!bool ", "!!timestamp ", "? ", "| ", "\t", "#", "%"]
PIECES += ["\u0085", "\x00", "x: &x [*x]\n", "[" * 3000, "1e999", ".nan", "0x", "2024-01-01", "é\u200b", "\ud800"]


def _insert(text: str, source: random.Random) -> str:
    where = source.randrange(len(text) + 1)
    return text[:where] + source.choice(PIECES) + text[where:]


def _delete(text: str, source: random.Random) -> str:
    where = source.randrange(len(text) + 1)
    return text[:where] + text[where + source.randint(1, 30) :]


def _repeat_line(text: str, source: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    lines.insert(source.randrange(len(lines) + 1), source.choice(lines))
    return "".join(lines)


def _replace_value(text: str, source: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    index = source.randrange(len(lines))
    key, colon, _ = lines[index].partition(": ")
    lines[index] = f"{key}{colon}{source.choice(PIECES)}\n"
    return "".join(lines)


MUTATIONS: tuple[Callable[[str, random.Random], str], ...] = (_insert, _delete, _repeat_line, _replace_value)
