"""What was found in the data, for a reviewer and for the record."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter

WORD_BINS = (8, 16, 32, 64, 128, 256, 512)
"""Upper ends (inclusive) of the bins of the word histogram; one more bin holds what is longer."""


@dataclass(frozen=True)
class BadRow:
    """A row that was set aside."""

    id: str
    place: str
    field: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place} ({self.id}), `{self.field}`: {self.problem}"


@dataclass(frozen=True)
class Leak:
    """A row that was removed because another split holds the same input."""

    id: str
    removed_from: str
    stands_in: str
    as_id: str
    """The row that stays."""


@dataclass(frozen=True)
class RepeatedInput:
    """An input that occurs more than once within a split, case and blanks aside."""

    split: str
    ids: tuple[str, ...]
    targets: tuple[str, ...]
    """The different targets that these rows have."""


@dataclass(frozen=True)
class TokenLengths:
    """Input lengths in tokens of the base model."""

    limit: int
    mean: float
    median: int
    p95: int
    longest: int
    truncated: int
    """Inputs longer than the limit, which are cut."""
    truncated_share: float

    @classmethod
    def of(cls, lengths: Sequence[int], limit: int) -> TokenLengths:
        """Raises ValueError if there is no length."""
        if not lengths:
            raise ValueError("no lengths")
        ordered = sorted(lengths)
        cut = sum(length > limit for length in ordered)
        rank = len(ordered) - 1
        return cls(
            limit=limit,
            mean=sum(ordered) / len(ordered),
            median=ordered[rank // 2],
            p95=ordered[round(rank * 0.95)],
            longest=ordered[-1],
            truncated=cut,
            truncated_share=cut / len(ordered),
        )


@dataclass(frozen=True)
class SplitReport:
    """One split, before and after cleaning."""

    rows_read: int | None
    """Rows in the source; None for a split that was made from train."""
    rows: int
    """Rows that are used."""
    classes: Mapping[str, int]
    """Label word → rows; empty for generation."""
    words: tuple[int, ...]
    """Inputs by number of words, over the bins of ``WORD_BINS``."""
    slices: Mapping[str, int]
    """Slice → rows."""
    tokens: TokenLengths | None = None


@dataclass(frozen=True)
class DataReport:
    """Everything that a reviewer should know about a task's data."""

    splits: Mapping[str, SplitReport]
    duplicates: tuple[RepeatedInput, ...]
    """Repeated inputs with one target."""
    conflicts: tuple[RepeatedInput, ...]
    """Repeated inputs with different targets."""
    leakage: tuple[Leak, ...]
    bad_rows: tuple[BadRow, ...]
    warnings: tuple[str, ...]
    """Plain sentences."""

    def with_token_lengths(self, lengths: Mapping[str, Sequence[int]], limit: int) -> DataReport:
        """A report that also knows input lengths in tokens; earlier ones are replaced.

        Args:
            lengths: split → tokens of each input.
            limit: longest input in tokens; longer ones are cut.
        """
        splits = {
            name: dataclasses.replace(split, tokens=TokenLengths.of(lengths[name], limit)) if name in lengths else split
            for name, split in self.splits.items()
        }
        kept = [warning for warning in self.warnings if warning not in _token_warnings(self.splits)]
        return dataclasses.replace(self, splits=splits, warnings=(*kept, *_token_warnings(splits)))

    def to_markdown(self) -> str:
        """The report for a reviewer, as Markdown."""
        from softprompt_core.data.report_markdown import markdown

        return markdown(self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; ``from_json`` gives an equal report."""
        found: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return found

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DataReport:
        """Raises pydantic.ValidationError (a ValueError) if the value is not a report."""
        return _adapter().validate_python(dict(value))


def word_histogram(texts: Iterable[str]) -> tuple[int, ...]:
    """Texts by number of words, over the bins of ``WORD_BINS``."""
    counts = [0] * (len(WORD_BINS) + 1)
    for text in texts:
        counts[bisect_left(WORD_BINS, len(text.split()))] += 1
    return tuple(counts)


def _token_warnings(splits: Mapping[str, SplitReport]) -> list[str]:
    return [
        f"{split.tokens.truncated} of {split.rows} {name} inputs ({split.tokens.truncated_share:.1%}) are longer than"
        f" {split.tokens.limit} tokens and are cut."
        for name, split in splits.items()
        if split.tokens is not None and split.tokens.truncated
    ]


@cache
def _adapter() -> TypeAdapter[DataReport]:
    from pydantic import TypeAdapter

    return TypeAdapter(DataReport)
