"""What is printed reaches the terminal as far as it can; work and exit codes do not depend on it.

A terminal may be unable to show a character, its window may be closed, a pipe may have no reader, a disk be full.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Any, TextIO

from softprompt_core.masking import masked

_REPLACEMENTS = {"✓": "+", "✗": "x", "≠": "!=", "→": "->", "–": "-", "—": "-", "…": "...", "×": "x", "±": "+-", "≥": ">="}


def prepare() -> None:
    """Make stdout and stderr of this process such streams; stderr masks passwords as well. Those of tests stay as they are."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # it was closed: the next file that is opened, a database perhaps, would be taken for it
            os.open(os.devnull, os.O_RDWR)
    codecs.register_error("softprompt", _replace)
    sys.stdout = _prepared(sys.stdout, 1, _Text)
    sys.stderr = _prepared(sys.stderr, 2, _MaskedText)


class _Text(io.TextIOWrapper):
    """Text that is sent to a ``_Forgiving``."""


class _MaskedText(_Text):
    def write(self, text: str, /) -> int:
        super().write(masked(text))
        return len(text)


class _Forgiving(io.FileIO):
    """A file that takes everything, whether it can be written or not."""

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        try:
            return super().write(data) or size
        except OSError as error:
            if not isinstance(error, BrokenPipeError) and self.fileno() == 1:
                _complain(error)
            return size


def _prepared(stream: TextIO | None, number: int, kind: type[_Text]) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if type(stream) is not io.TextIOWrapper or stream.fileno() != number:
        return stream
    stream.flush()
    file = io.BufferedWriter(_Forgiving(number, "w", closefd=False))
    line_buffering = number == 2 or stream.isatty()
    return kind(file, encoding=stream.encoding, errors="softprompt", line_buffering=line_buffering, write_through=number == 2)


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    shown = "".join(_REPLACEMENTS.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in text)
    return shown, error.end


def _complain(error: OSError) -> None:
    os.write(2, f"stdout cannot be written: {error.strerror}\n".encode())
