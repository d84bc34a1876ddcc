"""What is known about the data, for a reviewer and for the record."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

WORD_BINS = (8, 16, 32, 64, 128, 256, 512)
"""Upper ends (inclusive) of the bins of the word histogram; one more bin holds what is longer."""

_SHOWN = 10  # ids in a line


class _Stored(BaseModel):
    """Part of ``data/report.json`` of a run; the names of fields are its keys."""

    model_config = ConfigDict(frozen=True)


class BadRow(_Stored):
    """A row that was set aside."""

    id: str
    place: str
    field: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place} ({self.id}), `{self.field}`: {self.problem}"


class Leak(_Stored):
    """A row that was removed because another split holds the same input."""

    id: str
    removed_from: str
    stands_in: str
    as_id: str
    """The row that stays."""

    def __str__(self) -> str:
        return f"{self.id} from {self.removed_from}: {self.as_id} in {self.stands_in}"


class RepeatedInput(_Stored):
    """An input that occurs more than once within a split, case and blanks aside."""

    split: str
    ids: tuple[str, ...]
    targets: tuple[str, ...]
    """The different targets that these rows have."""

    def __str__(self) -> str:
        return f"{self.split}: {', '.join(self.ids[:_SHOWN])} → {' / '.join(self.targets)}"


class TokenLengths(_Stored):
    """Input lengths in tokens of the base model."""

    limit: int
    mean: float
    median: int
    p95: int
    longest: int
    truncated: int
    """Inputs longer than the limit, which are cut."""
    truncated_share: float
    unknown_share: float = Field(0.0, exclude_if=lambda share: not share)
    """Share of the tokens that stand for text which the base's tokenizer cannot express."""

    @classmethod
    def of(cls, lengths: Sequence[int], limit: int, unknown: int = 0) -> TokenLengths:
        """Raises ValueError if there is no length."""
        if not lengths:
            raise ValueError("no lengths")
        ordered = sorted(lengths)
        truncated = sum(length > limit for length in ordered)
        last = len(ordered) - 1
        return cls(
            limit=limit,
            mean=sum(ordered) / len(ordered),
            median=ordered[last // 2],
            p95=ordered[round(last * 0.95)],
            longest=ordered[-1],
            truncated=truncated,
            truncated_share=truncated / len(ordered),
            unknown_share=unknown / max(sum(ordered), 1),
        )


class SplitReport(_Stored):
    """One split, before and after cleaning."""

    rows_read: int | None
    """Rows in the source; None for a split that was made from train."""
    rows: int
    """Rows that are used."""
    classes: dict[str, int]
    """Label word → rows; empty for generation."""
    words: tuple[int, ...]
    """Inputs by number of words, over the bins of ``WORD_BINS``."""
    slices: dict[str, int]
    """Slice → rows."""
    tokens: TokenLengths | None = None

    @property
    def read(self) -> str:
        """Where its rows are from: how many the source has, or that they were taken from train."""
        return "made from train" if self.rows_read is None else str(self.rows_read)


class DataReport(_Stored):
    """Everything that a reviewer should know about a task's data."""

    splits: dict[str, SplitReport]
    duplicates: tuple[RepeatedInput, ...]
    """Repeated inputs with one target."""
    conflicts: tuple[RepeatedInput, ...]
    """Repeated inputs with different targets."""
    leakage: tuple[Leak, ...]
    bad_rows: tuple[BadRow, ...]
    warnings: tuple[str, ...]
    """Plain sentences."""

    def set_aside(self, split: str) -> int:
        """How many rows of a split were."""
        return sum(row.id.startswith(f"{split}/") for row in self.bad_rows)

    def removed(self, split: str) -> int:
        """How many rows of a split were removed because another holds the same input."""
        return sum(leak.removed_from == split for leak in self.leakage)

    def with_token_lengths(
        self, lengths: Mapping[str, Sequence[int]], limit: int, unknown: Mapping[str, int] | None = None
    ) -> DataReport:
        """A report that also knows input lengths in tokens; earlier ones are replaced.

        Args:
            lengths: split → tokens of each input.
            limit: longest input in tokens; longer ones are cut.
            unknown: split → how many of the tokens are the tokenizer's one for unknown text.
        """
        tokens = {name: TokenLengths.of(lengths[name], limit, (unknown or {}).get(name, 0)) for name in lengths}
        splits = {
            name: split.model_copy(update={"tokens": tokens[name]}) if name in tokens else split
            for name, split in self.splits.items()
        }
        earlier = _token_warnings(self.splits)
        warnings = (*(warning for warning in self.warnings if warning not in earlier), *_token_warnings(splits))
        return self.model_copy(update={"splits": splits, "warnings": warnings})


def word_histogram(texts: Iterable[str]) -> tuple[int, ...]:
    """Texts by number of words, over the bins of ``WORD_BINS``."""
    counts = [0] * (len(WORD_BINS) + 1)
    for text in texts:
        counts[bisect_left(WORD_BINS, len(text.split()))] += 1
    return tuple(counts)


def word_bin_names() -> list[str]:
    """The bins of the word histogram in words."""
    lower = (1, *(end + 1 for end in WORD_BINS))
    return [f"{low} to {high}" for low, high in zip(lower, WORD_BINS, strict=False)] + [f"{lower[-1]} or more"]


def _token_warnings(splits: Mapping[str, SplitReport]) -> list[str]:
    warnings = []
    for name, split in splits.items():
        tokens = split.tokens
        if tokens is not None and tokens.truncated:
            cut = f"{tokens.truncated} of {split.rows} {name} inputs ({tokens.truncated_share:.1%})"
            warnings.append(f"{cut} are longer than {tokens.limit} tokens and are cut.")
        if tokens is not None and tokens.unknown_share:
            warnings.append(
                f"{tokens.unknown_share:.2%} of the tokens of {name} inputs stand for text that this base does not know."
            )
    return warnings
