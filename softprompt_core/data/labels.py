"""From the value in the label column to the word that the model answers with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from softprompt_core.data.look_alikes import difference, look_alikes
from softprompt_core.data.sources import RawSplit
from softprompt_core.data.templates import cell_problem
from softprompt_core.errors import InvalidInput
from softprompt_core.spec.data import TargetSpec

_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)\.0")


@dataclass(frozen=True)
class Labels:
    """The classes of a task."""

    words: tuple[str, ...]
    """In the order of the spec, else of ``ClassLabel``, else sorted."""
    by_value: Mapping[str, str]
    """``label_text`` of a value in the column → word."""


def label_text(value: Any) -> str:
    """A label's value as text, so that 1, "1", 1.0 and "1.0" are one label, and so are true, "true" and "True"."""
    text = _text(value)
    whole = text.removesuffix(".0") if _WHOLE_NUMBER.fullmatch(text) else text
    return "0" if whole == "-0" else whole


def find_labels(target: TargetSpec, raws: Mapping[str, RawSplit]) -> Labels:
    """The classes, from the spec's map, else the names of a ``ClassLabel`` column, else the values that occur in any split.

    Raises:
        InvalidInput: two values of the map are the same text.
    """
    column = target.column
    assert column is not None
    names = next((part.class_names[column] for raw in raws.values() for part in raw.parts if column in part.class_names), ())
    if target.labels is not None:
        return Labels(tuple(target.labels.values()), _by_number(_by_text(target.labels), names))
    if names:
        return Labels(names, {str(number): name for number, name in enumerate(names)})
    texts: dict[str, set[str]] = {}
    for raw in raws.values():
        for value in raw.cells[column]:
            if cell_problem(value) is None:
                texts.setdefault(label_text(value), set()).add(_text(value))
    # A label that is written in one way everywhere keeps it: text cells "1.0" make the word "1.0".
    by_value = {value: next(iter(written)) if len(written) == 1 else value for value, written in texts.items()}
    return Labels(tuple(sorted(by_value.values())), by_value)


def _by_text(labels: Mapping[str, str]) -> dict[str, str]:
    """``label_text`` of a value → word. Raises InvalidInput for two values of one text."""
    written: dict[str, str] = {}
    for value in labels:
        first = written.setdefault(label_text(value), value)
        if first != value:
            problem = f"two values of the map are the same label: {first!r} and {value!r}"
            do = "values are compared as text without surrounding blanks, true like True and 1.0 like 1"
            raise InvalidInput(problem, where="data.target.labels", do=do)
    return {text: labels[value] for text, value in written.items()}


def look_alike_warnings(labels: Labels) -> list[str]:
    """A sentence for each two labels that a reader takes for each other, by their values in the data or by their words."""
    words, values = look_alikes(labels.words), look_alikes(labels.by_value)
    told = {frozenset(pair) for pair in words}  # without a map the values are the words
    pairs = [("words", pair) for pair in words] + [("values", pair) for pair in values if frozenset(pair) not in told]
    return [f"The labels' {kind} {one!r} and {other!r} look alike: {difference(one, other)}." for kind, (one, other) in pairs]


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return text.lower() if text.lower() in ("true", "false") else text


def _by_number(by_value: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """A ``ClassLabel`` column holds numbers; a map may speak of the numbers or of the names behind them."""
    numbers = {str(number) for number in range(len(names))}
    if not names or set(by_value) <= numbers:
        return by_value
    return {str(number): by_value[label_text(name)] for number, name in enumerate(names) if label_text(name) in by_value}
