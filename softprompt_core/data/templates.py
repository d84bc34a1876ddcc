"""How cells become text. Preparation and serving both render here, so that a model is asked what it was trained on."""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Mapping
from typing import Any

_MAX_BITS = 10_000  # 3,000 digits; Python itself writes no more than 4,300
_LARGEST_WHOLE = 1e16  # from here on a float is written with an exponent


def cell_problem(value: Any) -> str | None:
    """Why a cell cannot stand in a template, or None if it can.

    Text and finite numbers can. Missing values, NaN, blank text, lists, mappings, bytes and integers of thousands of digits
    cannot.
    """
    if isinstance(value, str):
        if not value.strip():
            return "is empty"
        surrogate = not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)
        return "holds half a character (a lone surrogate), which no tokenizer reads" if surrogate else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "is empty"
    if isinstance(value, int):
        return None if value.bit_length() <= _MAX_BITS else "is an integer of thousands of digits"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"is not a finite number but {value}"
    return f"is not text but {type(value).__name__}"


def render(template: str, cells: Mapping[str, Any]) -> str:
    """Fill a template with cells that have no ``cell_problem``.

    A whole number is written without a fraction, whether it came as 1 or as 1.0: a frame turns the one into the other as soon
    as another row of the column has a fraction, and that must not change the text.

    Raises:
        KeyError: a column is missing.
        ValueError: a format such as ``{price:.2f}`` does not fit the cell; the message names the column.
    """
    parts = []
    for literal, name, layout in _pieces(template):
        parts.append(literal)
        if name is not None:
            try:
                parts.append(_formatted(cells[name], layout))
            except (ValueError, TypeError, OverflowError) as error:
                raise ValueError(f"`{name}` does not fit the format `{layout}`: {error}") from None
    return "".join(parts)


def _formatted(value: Any, layout: str) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_WHOLE:
        value = int(value)
    try:
        return format(value, layout)
    except ValueError:
        if type(value) is not int:
            raise
        return format(float(value), layout)  # a layout for fractions, such as `.3`


@functools.lru_cache(maxsize=256)
def _pieces(template: str) -> tuple[tuple[str, str | None, str], ...]:
    # Not str.format: it would take a column called `0` for a positional argument.
    return tuple((literal, name, layout or "") for literal, name, layout, _ in string.Formatter().parse(template))
