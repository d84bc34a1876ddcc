"""Answers of one registered version. The version holds the soft prompt and the spec; the base is loaded by its identity."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt_core import settings
from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.base_model.tokens import answer_room, encode_inputs, input_limit
from softprompt_core.data import cell_problem, frame_cells, plain_cells, render
from softprompt_core.errors import InvalidInput
from softprompt_core.forward import Engine, generate, label_scores
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import BaseModelSpec, PromptSpec, load_spec
from softprompt_core.spec.data import template_fields
from softprompt_core.store.content import require_sealed

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

SPEC_FILE = "spec.yaml"


@dataclass(frozen=True, eq=False)
class Predictor:
    """A soft prompt on its base."""

    base: BaseModel
    prompt: SoftPrompt
    spec: PromptSpec

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """Read a version's folder and load its base (once a process, shared by all versions on it).

        Raises:
            InvalidInput: the files are not those that were registered, or the base is not the one that the prompt was trained
                on.
            Unavailable: the base cannot be reached.
        """
        require_sealed(folder)
        spec = load_spec(folder / SPEC_FILE)
        prompt = SoftPrompt.load(folder / FILE_NAME)
        base_spec, folder_here = spec.base_model, settings.current().base_model
        if folder_here:
            base_spec = BaseModelSpec(id=folder_here, dtype=base_spec.dtype, quantization=base_spec.quantization)
        base = load_base(base_spec)
        prompt.fits(base)
        return cls(base, prompt, spec)

    @functools.cached_property
    def labels(self) -> LabelTree | None:
        """Labels of a classification task as this base's tokens; None for generation."""
        return LabelTree.of(self.base, self.prompt.labels) if self.prompt.labels else None

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """One answer a row: ``prediction``, and for classification ``probability`` (softmax over the labels' log-probabilities).

        Cells are taken as in training: text, numbers, dates; a row that training would have set aside is refused.

        Raises:
            InvalidInput: a column of the input template is missing or there twice, or a cell is empty.
        """
        import pandas as pd

        columns = list(dict.fromkeys(template_fields(self.spec.data.input)))
        cells = frame_cells(frame, columns, "input")
        missing = [column for column in columns if column not in cells]
        if missing:
            present = ", ".join(map(str, frame.columns)) or "none"
            raise InvalidInput(
                f"the column `{missing[0]}` is missing; the input has: {present}", do=f"send the columns {', '.join(columns)}"
            )
        rows = zip(*(cells[column] for column in columns), strict=True)
        texts = [text_of(self.spec, dict(zip(columns, row, strict=True)), index) for index, row in enumerate(rows)]
        options = self.spec.evaluation
        engine = Engine(self.base, self.prompt.position, self.encode(texts), cache_bytes=0)
        if self.labels is None:
            texts = generate(engine, self.prompt.weights, max_new_tokens=options.max_new_tokens, num_beams=options.num_beams)
            return pd.DataFrame({"prediction": pd.Series(texts, index=frame.index, dtype=str)})
        answers = [self.answer(scores) for scores in label_scores(engine, self.prompt.weights, self.labels)]
        words, probabilities = [word for word, _ in answers], [probability for _, probability in answers]
        return pd.DataFrame({"prediction": pd.Series(words, index=frame.index, dtype=str), "probability": probabilities})

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Rendered inputs as token ids, cut to what the base's context leaves beside prompt and answer."""
        room = answer_room(self.spec, self.labels.ids if self.labels else ())
        limit = input_limit(self.base, self.prompt.length, room, self.spec.data.max_input_tokens)
        return encode_inputs(self.base, texts, limit)[0]

    def answer(self, scores: Tensor) -> tuple[str, float]:
        """The best label and its probability, from log-probabilities ``[L]``."""
        best = scores.double().exp().max(dim=0)
        return self.prompt.labels[int(best.indices)], float(best.values)


def text_of(spec: PromptSpec, row: Mapping[Any, Any], index: int) -> str:
    """The rendered input of one row, as training renders it.

    Raises:
        InvalidInput: a cell is empty or does not fit the template; ``index`` names the row.
    """
    cells = dict(zip(row, plain_cells(list(row.values())), strict=True))
    for column, cell in cells.items():
        problem = cell_problem(cell)
        if problem:
            raise InvalidInput(f"row {index}: `{column}` {problem}", do="send text or a number in every column")
    try:
        return render(spec.data.input, cells)
    except ValueError as error:
        do = "send what the format asks for, or a number where it writes numbers"
        raise InvalidInput(f"row {index}: {error}", do=do) from None
