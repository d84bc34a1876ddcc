"""Answers of one registered version. The version holds the soft prompt and the spec; the base is loaded by its identity."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt_core.base_model import BaseModel, load_base
from softprompt_core.data import cell_problem, render
from softprompt_core.encoding import encode_inputs, input_limit
from softprompt_core.errors import InvalidInput
from softprompt_core.forward import Engine, generate, label_scores
from softprompt_core.label_words import LabelTokens
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import BaseModelSpec, PromptSpec, load_spec
from softprompt_core.spec.models import template_fields

if TYPE_CHECKING:
    import pandas as pd

SPEC_FILE = "spec.yaml"
BASE_OVERRIDE = "SOFTPROMPT_BASE_MODEL"  # where the base lies on this machine, if not where the spec says


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
            InvalidInput: a damaged folder, or the base is not the one that the prompt was trained on.
            Unavailable: the base cannot be reached.
        """
        spec = load_spec(folder / SPEC_FILE)
        prompt = SoftPrompt.load(folder / FILE_NAME)
        place = os.environ.get(BASE_OVERRIDE)
        base = load_base(
            BaseModelSpec(id=place, dtype=spec.base_model.dtype, quantization=spec.base_model.quantization)
            if place
            else spec.base_model
        )
        prompt.fits(base)
        return cls(base, prompt, spec)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """One answer a row: ``prediction``, and for classification ``probability`` (softmax over the labels' log-probabilities).

        Raises:
            InvalidInput: a column of the input template is missing, or a cell is empty.
        """
        import pandas as pd

        columns = list(dict.fromkeys(template_fields(self.spec.data.input)))
        missing = [c for c in columns if c not in frame.columns]
        if missing:
            have = ", ".join(map(str, frame.columns)) or "none"
            raise InvalidInput(
                f"the column `{missing[0]}` is missing; the input has: {have}", do=f"send the columns {', '.join(columns)}"
            )
        texts = [_text(self.spec, row, place) for place, row in enumerate(frame[columns].to_dict(orient="records"))]
        options, labels = self.spec.evaluation, self.prompt.labels
        answers = LabelTokens.of(self.base, labels) if labels else None
        room = max(map(len, answers.ids)) if answers else options.max_new_tokens
        rows, _ = encode_inputs(
            self.base, texts, input_limit(self.base, self.prompt.length, room, self.spec.data.max_input_tokens)
        )
        engine = Engine(self.base, self.prompt.position, rows, cache_bytes=0)
        if answers is None:
            texts = generate(engine, self.prompt.weights, max_new_tokens=options.max_new_tokens, num_beams=options.num_beams)
            return pd.DataFrame({"prediction": pd.Series(texts, index=frame.index, dtype=str)})
        best = label_scores(engine, self.prompt.weights, answers).double().exp().max(dim=1)
        words = [labels[i] for i in best.indices.tolist()]
        return pd.DataFrame({"prediction": pd.Series(words, index=frame.index, dtype=str), "probability": best.values.numpy()})


def _text(spec: PromptSpec, row: Mapping[Any, Any], place: int) -> str:
    for column, cell in row.items():
        problem = cell_problem(cell)
        if problem:
            raise InvalidInput(f"row {place}: `{column}` {problem}", do="send text or a number in every column")
    return render(spec.data.input, row)
