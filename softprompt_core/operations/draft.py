"""A first spec from a data file: which column is the answer, what the input is made of, which gates make sense."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softprompt_core.data.sources.loading import FILE_SUFFIXES, load_splits
from softprompt_core.errors import InvalidInput, closest
from softprompt_core.spec.data import DataSource, template_fields
from softprompt_core.text_files import require_regular

_SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test", "eval")}
# Names that people give to the column with the answer, the most telling first.
_ANSWER_NAMES = ("label", "labels", "target", "class", "category", "intent", "sentiment", "answer", "summary", "output")
_INPUT_NAMES = ("text", "sentence", "input", "question", "review", "message", "content", "body", "title", "prompt")
_ID_NAMES = re.compile(r"(^|_)(id|idx|index|uuid|guid)$|^unnamed", re.IGNORECASE)
_MOST_LABELS = 200
_LONG_WORDS = 40
_SHOWN = 12


@dataclass(frozen=True)
class TaskTable:
    """The rows that a draft is made from.

    Attributes:
        files: split → its file.
        cells: column → its cells as text, of all splits; columns that no template can name are left out.
    """

    files: dict[str, Path]
    cells: dict[str, list[str]]

    @property
    def rows(self) -> int:
        return len(next(iter(self.cells.values()), []))

    def is_label(self, column: str) -> bool:
        """Whether a column's few values come again and again, as those of classes do."""
        distinct = len(set(self.cells[column]))
        return 2 <= distinct <= min(_MOST_LABELS, max(2, self.rows // 4))

    def words(self, column: str) -> float:
        """Words a cell, on average."""
        return sum(len(cell.split()) for cell in self.cells[column]) / max(self.rows, 1)


def read_table(data: Path) -> TaskTable:
    """Read a data file, or the files of a folder that are called after splits.

    Raises:
        InvalidInput: no such file, none of a known kind, or no rows in it.
    """
    files = _split_files(data) if data.is_dir() else {"train": data}
    if not data.is_dir():
        _require_kind(data)
    source = DataSource.model_validate({"files": {split: str(path.absolute()) for split, path in files.items()}})
    names = [name for name in load_splits(source, ())["train"].columns if _can_be_named(name)]
    splits = load_splits(source, names)
    cells = {
        name: ["" if cell is None else str(cell) for split in splits.values() for cell in split.cells.get(name) or ()]
        for name in names
    }
    table = TaskTable(files, {name: column for name, column in cells.items() if any(column)})
    if not table.rows:
        raise InvalidInput("has no rows with columns that have names", where=str(data), do="write a header and rows")
    return table


def answer_candidates(table: TaskTable) -> list[str]:
    """Columns that may hold the answer, the likeliest first; a single one is meant."""
    named = [name for wanted in _ANSWER_NAMES for name in table.cells if name.lower() == wanted]
    if named:
        return named[:1]
    labels = [name for name in table.cells if table.is_label(name) and name.lower() not in _INPUT_NAMES]
    return labels or [name for name in table.cells if not _ID_NAMES.search(name)]


def input_columns(table: TaskTable, target: str) -> list[str]:
    """Columns that the input is made of: texts, no numbers, ids or labels.

    Raises:
        InvalidInput: there is none.
    """
    others = [name for name in table.cells if name != target and not _ID_NAMES.search(name)]
    texts = [name for name in others if name.lower() in _INPUT_NAMES or table.words(name) >= 2]
    chosen = texts or [name for name in others if not table.is_label(name)]
    if not chosen:
        raise InvalidInput("no column is left for the input", where=f"target {target}", do="name one with --input '{column}'")
    return chosen


def check_columns(table: TaskTable, names: Sequence[str], option: str) -> None:
    """Raises InvalidInput if a column is none of the table's."""
    for name in names:
        if name not in table.cells:
            close = closest(name, tuple(table.cells))
            hint = f"did you mean `{close}`?" if close else f"there are {', '.join(f'`{c}`' for c in table.cells)}"
            raise InvalidInput(f"no column is called `{name}`; {hint}", where=option, do="name a column of the data")


def draft(table: TaskTable, *, name: str, target: str, template: str, base: str, folder: Path) -> str:
    """The text of a spec, with comments.

    Args:
        target: the column with the answer.
        template: of the input, over the other columns.
        base: the base's name.
        folder: where the spec will lie; paths in it are relative to that.
    """
    is_classification = table.is_label(target)
    files = {split: _path_from(folder, path) for split, path in table.files.items()}
    missing = [split for split in ("validation", "test") if split not in files]
    lines = [
        "# Made by `softprompt init`. Read it over, then: softprompt check FILE, softprompt run FILE.",
        f"name: {_quoted(name)}",
        f"description: {_quoted('What should come out of one row?')} # stands in MLflow's pages",
        f"base_model: {_quoted(base)}",
        "data:",
        "  source:",
        "    files:",
        *(f"      {split}: {_quoted(path)}" for split, path in files.items()),
    ]
    if missing:
        share = {"validation": "10 %", "test": "20 %"}
        lines.append(f"  # {' and '.join(f'{split} ({share[split]})' for split in missing)}: made from train, by label and seed")
    lines += [f"  input: {_quoted(template)} # a template over the columns: {', '.join(table.cells)}"]
    lines += _label_lines(table, target) if is_classification else [f"  target: {{template: {_quoted(f'{{{target}}}')}}}"]
    lines += _slice_lines(table, template)
    lines += ["prompt: {length: 20} # vectors; more rarely help"]
    if not is_classification:
        longest = max(len(cell.split()) for cell in table.cells[target])
        lines += [f"evaluation: {{max_new_tokens: {min(max(2 * longest, 8), 256)}}} # the longest answer has {longest} words"]
    lines += [
        "gates: # a version that fails one is kept, and does not become champion",
        *_gate_lines(table, target, is_classification),
        "# approval: required # a person must agree as well",
        '# schedule: {cron: "0 3 * * 1", timezone: UTC} # for `softprompt deploy`',
    ]
    return "\n".join(lines) + "\n"


def _path_from(folder: Path, path: Path) -> str:
    """Relative to the spec's folder, unless that leads far away."""
    relative = os.path.relpath(path.absolute(), folder.absolute())
    return str(path.absolute()) if relative.startswith(os.path.join("..", "..")) else relative


def _split_files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = path.name.partition(".")[0].lower()
        for split, names in _SPLIT_NAMES.items():
            if path.is_file() and _kind(path) and stem in names:
                found.setdefault(split, path)
    if "train" not in found:
        do = f"call its files train, validation and test ({', '.join(FILE_SUFFIXES)}), or name one file"
        raise InvalidInput("the folder has no training rows", where=str(folder), do=do)
    return {split: found[split] for split in _SPLIT_NAMES if split in found}


def _require_kind(path: Path) -> None:
    try:
        require_regular(path)
        path.stat()
    except FileNotFoundError:
        raise InvalidInput("no such file", where=str(path), do="name a data file, or a folder of them") from None
    if not _kind(path):
        do = f"bring it as {', '.join(FILE_SUFFIXES)}"
        raise InvalidInput("is no kind of data file that can be read", where=str(path), do=do)


def _kind(path: Path) -> bool:
    return path.name.lower().endswith(FILE_SUFFIXES)


def _can_be_named(column: str) -> bool:
    """Whether a template can name a column: some signs mean something there."""
    try:
        return bool(column) and ":" not in column and "!" not in column and template_fields(f"{{{column}}}") == [column]
    except ValueError:
        return False


def _label_lines(table: TaskTable, target: str) -> list[str]:
    counts = Counter(cell for cell in table.cells[target] if cell)
    shown = ", ".join(f"{label} {count}" for label, count in counts.most_common(_SHOWN))
    lines = [f"  # rows a label: {shown}{', …' if len(counts) > _SHOWN else ''}"]
    if any(re.search("[^\\W\\d_]", label) for label in counts):
        return [*lines, f"  target: {{column: {_quoted(target)}}} # the values are the words that the base answers with"]
    labels = ", ".join(f"{_quoted(label)}: {_quoted(f'class {label}')}" for label in sorted(counts))
    return [
        *lines,
        "  # Words that say what the class is work better than numbers:",
        f"  target: {{column: {_quoted(target)}, labels: {{{labels}}}}}",
    ]


def _slice_lines(table: TaskTable, template: str) -> list[str]:
    """Long inputs as a slice, where there are long ones and others."""
    column = max(template_fields(template), key=table.words)
    lengths = sorted(len(cell) for cell in table.cells[column])
    long = lengths[int(0.8 * (len(lengths) - 1))]
    if not column.isidentifier() or table.words(column) < _LONG_WORDS / 4 or lengths[-1] == long:
        return []
    return [f'  slices: {{long: "len({column}) > {long}"}} # looked at apart; a gate may name it']


def _gate_lines(table: TaskTable, target: str, is_classification: bool) -> list[str]:
    if not is_classification:
        return [
            "  - {metric: rougeL, versus: hard_prompt, by: 0.0} # better than asking the base in words",
            "  - {metric: rougeL, versus: champion, margin: 0.01} # hardly worse than the version that serves now",
        ]
    counts = Counter(table.cells[target]).most_common()
    metric = "macro_f1" if counts[0][1] > 2 * counts[-1][1] else "accuracy"
    return [
        f"  # - {{metric: {metric}, at_least: 0.85}} # what your application needs",
        f"  - {{metric: {metric}, versus: majority, by: 0.0, confidence: 0.95}} # better than one answer to everything",
        f"  - {{metric: {metric}, versus: hard_prompt, by: 0.0}} # better than asking the base in words",
        f"  - {{metric: {metric}, versus: champion, margin: 0.02}} # hardly worse than the version that serves now",
    ]


def _quoted(text: str) -> str:
    """A value as YAML reads it back, plain where that is safe."""
    plain = re.fullmatch(r"[A-Za-z][\w./-]*( [A-Za-z][\w./-]*)*", text)
    words = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
    return text if plain and text.lower() not in words else json.dumps(text, ensure_ascii=False)
