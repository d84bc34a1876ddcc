"""The ``data`` part of a spec: where rows come from, and how a row becomes the model's input and target."""

from __future__ import annotations

import string
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from softprompt_core.spec.frozen import Frozen, OneOrMore


class FilesSource(Frozen):
    """Local files, one entry a split. jsonl, jsonl.gz, json, csv, parquet; globs allowed."""

    train: OneOrMore
    """Training rows; other splits are made from them when they are not given."""
    validation: OneOrMore | None = None
    """Rows that choose the best checkpoint."""
    test: OneOrMore | None = None
    """Rows that the gates look at. Never used in training."""


class DataSource(Frozen):
    """Where rows come from: exactly one of `files` and `hub`."""

    files: FilesSource | None = None
    """Local files."""
    hub: str | None = None
    """Data set id at the hub."""
    config: str | None = None
    """hub: name of the configuration."""
    revision: str | None = None
    """hub: commit or tag."""
    splits: dict[Literal["train", "validation", "test"], str] = Field(default_factory=dict)
    """hub: names of the splits there, where they differ from train / validation / test."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.files is None) == (self.hub is None):
            raise ValueError("name exactly one of `files` and `hub`")
        if self.files is not None and (self.config or self.revision or self.splits):
            raise ValueError("`config`, `revision` and `splits` go with `hub`, not with `files`")
        return self


class TargetSpec(Frozen):
    """What the model should answer: a class label (`column`) or free text (`template`)."""

    column: str | None = None
    """Classification: the column that holds the label."""
    labels: dict[str, str] | None = None
    """Classification: value in the column → word the model answers with. Without it, the values are the words."""
    template: str | None = None
    """Generation: template over the columns, for instance `{summary}`."""

    @field_validator("labels", mode="before")
    @classmethod
    def _keys_are_text(cls, value: Any) -> Any:
        # A mapping from Python may have numbers and booleans as keys; the data are compared as text with them.
        if isinstance(value, dict):
            return {str(k): v for k, v in value.items()}
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.column is None) == (self.template is None):
            raise ValueError("name exactly one of `column` (classification) and `template` (generation)")
        if self.labels is not None:
            if self.column is None:
                raise ValueError("`labels` goes with `column`")
            words = list(self.labels.values())
            if len(words) < 2:
                raise ValueError("a classification task needs at least two labels")
            repeated = {word for word in words if words.count(word) > 1}
            if repeated:
                raise ValueError(f"two labels share the word {min(repeated)!r}; each class needs its own")
            if any(not word.strip() for word in words):
                raise ValueError("a label's word is empty")
        return self


class SplitSpec(Frozen):
    """How missing splits are made from train: stratified by label, seeded, equal texts kept together."""

    validation: float = Field(0.1, gt=0, lt=0.5)
    """Share of the training rows."""
    test: float = Field(0.2, gt=0, lt=0.5)
    """Share of the training rows."""
    seed: int = 0
    """Another seed makes other splits, and so another fingerprint."""


def template_fields(template: str) -> list[str]:
    """Column names that a ``str.format`` template uses, in order. Raises ValueError for an unreadable template."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"cannot read the template {template!r}: {error}") from None
    names = []
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if not name:
            raise ValueError(f"template {template!r}: empty braces; write the column's name, or double them for a literal brace")
        # Nothing is looked up inside a cell: a dot is a part of the column's name, as in `reviews.text`.
        if "[" in name or ".__" in name or conversion or (spec and "{" in spec):
            raise ValueError(f"template {template!r}: only plain column names may stand in braces, not {name!r}")
        names.append(name)
    return names


class DataSpec(Frozen):
    """Rows, and how a row becomes the model's input and target."""

    source: DataSource
    """Where the rows come from."""
    input: str
    """Template over the columns: `{sentence}`, or `{question}\\n{passage}`."""
    target: TargetSpec
    """The answer."""
    slices: dict[str, str] = Field(default_factory=dict)
    """Named subsets of the test rows, reported and gateable: a pandas query over the columns, like
    `len(sentence) > 120` or `source == "web"`."""
    splits: SplitSpec = SplitSpec()
    """How splits that the source lacks are made."""
    max_bad_rows: int = Field(0, ge=0)
    """Rows with an empty or non-text field or an unknown label are set aside and listed; more than this many
    make the run `invalid`."""
    min_rows_per_class: int = Field(2, ge=1)
    """Fewer training rows than this for a label make the run `invalid`."""
    max_input_tokens: int | None = Field(None, ge=1)
    """Longer inputs are cut (the report says how many). Default: what the base's context leaves beside prompt and target."""

    @field_validator("input")
    @classmethod
    def _input_uses_columns(cls, value: str) -> str:
        if not template_fields(value):
            raise ValueError("the input template names no column, so every row would look the same; write for instance `{text}`")
        return value

    @model_validator(mode="after")
    def _target_template(self) -> Self:
        if self.target.template is not None and not template_fields(self.target.template):
            raise ValueError("the target template names no column")
        return self

    def columns(self) -> list[str]:
        """Columns that input and target use, in order, each once."""
        target = [self.target.column] if self.target.column else template_fields(self.target.template or "")
        return list(dict.fromkeys([*template_fields(self.input), *target]))
