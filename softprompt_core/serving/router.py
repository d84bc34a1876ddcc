"""Many tasks on one base: rows of any of them share a batch, each with its own prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from softprompt_core.errors import InvalidInput
from softprompt_core.forward import Engine, rank_labels
from softprompt_core.serving.predictor import Predictor, text_of
from softprompt_core.spec.models import template_fields


@dataclass(frozen=True)
class Request:
    """One row for one task; ``row`` has the columns of the task's input template."""

    task: str
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """``probability`` among the task's labels; None for text that was generated."""

    prediction: str
    probability: float | None


class Router:
    """Predictors of one base.

    Rows of classification tasks are ranked together, whatever their tasks, prompt lengths and label words; prompts before and
    after the input make two batches. A generation task's rows are written by themselves.

    Raises:
        InvalidInput: the predictors do not share one base.
    """

    def __init__(self, predictors: Mapping[str, Predictor]) -> None:
        self.predictors = dict(predictors)
        bases = {id(predictor.base): predictor.base.identity.short for predictor in self.predictors.values()}
        if len(bases) > 1:
            raise InvalidInput(
                f"these tasks stand on different bases: {', '.join(sorted(bases.values()))}", do="make one router a base"
            )

    @classmethod
    def load(cls, folders: Mapping[str, Path]) -> Router:
        """From folders of versions (their ``artifacts/soft_prompt``), one a task. The base is loaded once."""
        return cls({task: Predictor.load(folder) for task, folder in folders.items()})

    def predict(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer a request, in their order.

        Raises:
            InvalidInput: an unknown task, a missing column, an empty cell; the place of the request is named.
        """
        answers: dict[int, Answer] = {}
        texts = [self._text(request, place) for place, request in enumerate(requests)]
        ranked = [n for n, request in enumerate(requests) if self.predictors[request.task].labels is not None]
        for position in ("prefix", "suffix"):
            places = [n for n in ranked if self.predictors[requests[n].task].prompt.position == position]
            answers |= self._ranked([requests[n].task for n in places], [texts[n] for n in places], places, position)
        for task in {request.task for n, request in enumerate(requests) if n not in answers}:
            places = [n for n, request in enumerate(requests) if request.task == task]
            written = self.predictors[task].predict(pd.DataFrame([dict(requests[n].row) for n in places]))
            answers |= {n: Answer(text, None) for n, text in zip(places, written["prediction"], strict=True)}
        return [answers[n] for n in range(len(requests))]

    def _ranked(self, tasks: Sequence[str], texts: Sequence[str], places: Sequence[int], position: str) -> dict[int, Answer]:
        names = sorted(set(tasks))
        chosen = [self.predictors[name] for name in names]
        if not chosen:
            return {}
        inputs: list[tuple[int, ...]] = [()] * len(texts)
        for name, predictor in zip(names, chosen, strict=True):
            mine = [n for n, task in enumerate(tasks) if task == name]
            for n, ids in zip(mine, predictor.encode([texts[n] for n in mine]), strict=True):
                inputs[n] = ids
        engine = Engine(chosen[0].base, position, inputs, cache_bytes=0)
        queries = [(n, names.index(task)) for n, task in enumerate(tasks)]
        labels = [predictor.labels for predictor in chosen if predictor.labels is not None]
        found = rank_labels(engine, [predictor.prompt.weights for predictor in chosen], labels, queries)
        return {
            place: Answer(*self.predictors[task].answer(scores)) for place, task, scores in zip(places, tasks, found, strict=True)
        }

    def _text(self, request: Request, place: int) -> str:
        predictor = self.predictors.get(request.task)
        if predictor is None:
            known = ", ".join(sorted(self.predictors)) or "none"
            raise InvalidInput(f"row {place}: no such task `{request.task}`; there are: {known}", do="name one of them")
        columns = dict.fromkeys(template_fields(predictor.spec.data.input))
        missing = [column for column in columns if column not in request.row]
        if missing:
            raise InvalidInput(
                f"row {place}: the column `{missing[0]}` is missing", do=f"{request.task} needs {', '.join(columns)}"
            )
        return text_of(predictor.spec, {column: request.row[column] for column in columns}, place)
