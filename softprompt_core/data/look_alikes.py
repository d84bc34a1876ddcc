"""Labels that a reader takes for each other: what hides the difference, and which known label is meant."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable

from softprompt_core.errors import closest

_SHOWN = 20
_MAX_SHOWN_LENGTH = 60
# Small letters of other scripts that are drawn like Latin ones.
_DRAWN_ALIKE = str.maketrans("аеорсухіјѕһԁԛԝοϲ", "aeopcyxijshdqwoc")


def looks(text: str) -> str:
    """What a reader sees: without case, Unicode forms, marks that print nothing, and the number and kind of blanks."""
    visible = "".join(character for character in unicodedata.normalize("NFKC", text) if not _prints_nothing(character))
    return unicodedata.normalize("NFKC", " ".join(visible.split()).casefold()).translate(_DRAWN_ALIKE)


def look_alikes(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different texts that look alike, each text beside the first one that looks so."""
    first: dict[str, str] = {}
    pairs = []
    for text in dict.fromkeys(texts):
        other = first.setdefault(looks(text), text)
        if other != text:
            pairs.append((other, text))
    return pairs


def difference(one: str, other: str) -> str:
    """What tells two texts apart that look alike, as the end of a sentence."""
    for text in (one, other):
        hidden = next((character for character in text if _prints_nothing(character)), None)
        if hidden is not None:
            return f"{_shown(text)} holds the invisible character U+{ord(hidden):04X}"
    if one.casefold() == other.casefold():
        return "they differ in upper and lower case"
    if " ".join(one.split()) == " ".join(other.split()):
        return "they differ in blanks"
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return f"they are different Unicode forms of one text: {_code_points(one)} and {_code_points(other)}"
    return f"they are written with different characters: {_code_points(one)} and {_code_points(other)}"


def unknown_label(value: str, known: Collection[str], *, guess: bool = True) -> str:
    """Why a label is not known, and with ``guess`` which one may be meant."""
    problem = f"unknown label {_shown(value)}"
    same = next((label for label in known if looks(label) == looks(value)), None) if guess else None
    if same is not None:
        return f"{problem}; did you mean {_shown(same)}? {difference(value, same)}"
    listed = ", ".join(list(map(_cut, known))[:_SHOWN]) + (f" … and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
    close = closest(_cut(value), known, likeness=0.6) if guess else None
    hint = f"; did you mean {_shown(close)}?" if close else ""
    return f"{problem}{hint}; known: {listed}"


def _prints_nothing(character: str) -> bool:
    kind = unicodedata.category(character)
    return (kind in ("Cf", "Cc") and not character.isspace()) or "\ufe00" <= character <= "\ufe0f" or character == "\u034f"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN_LENGTH else f"{text[:_MAX_SHOWN_LENGTH]}…"


def _shown(text: str) -> str:
    return repr(_cut(text))


def _code_points(text: str) -> str:
    unusual = [f"U+{ord(character):04X}" for character in text if not character.isascii()]
    return f"{_shown(text)} ({' '.join(unusual[:5])})" if unusual else _shown(text)
