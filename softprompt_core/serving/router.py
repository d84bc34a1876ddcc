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
from softprompt_core.spec.data import template_fields


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
            InvalidInput: an unknown task, a missing column, an empty cell; the request's index is named.
        """
        texts = [self._text(request, index) for index, request in enumerate(requests)]
        by_position: dict[str, list[int]] = {}
        generated: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            predictor = self.predictors[request.task]
            group, key = (by_position, predictor.prompt.position) if predictor.labels else (generated, request.task)
            group.setdefault(key, []).append(index)
        answers: dict[int, Answer] = {}
        for position, indices in by_position.items():
            ranked = self._rank([requests[i].task for i in indices], [texts[i] for i in indices], position)
            answers |= dict(zip(indices, ranked, strict=True))
        for task, indices in generated.items():
            frame = self.predictors[task].predict(pd.DataFrame([dict(requests[i].row) for i in indices]))
            answers |= {i: Answer(text, None) for i, text in zip(indices, frame["prediction"], strict=True)}
        return [answers[index] for index in range(len(requests))]

    def _rank(self, tasks: Sequence[str], texts: Sequence[str], position: str) -> list[Answer]:
        """Answers of classification tasks, one a text."""
        names = sorted(set(tasks))
        chosen = [self.predictors[name] for name in names]
        inputs: list[tuple[int, ...]] = [()] * len(texts)
        for name, predictor in zip(names, chosen, strict=True):
            own = [index for index, task in enumerate(tasks) if task == name]
            for index, ids in zip(own, predictor.encode([texts[index] for index in own]), strict=True):
                inputs[index] = ids
        engine = Engine(chosen[0].base, position, inputs, cache_bytes=0)
        queries = [(index, names.index(task)) for index, task in enumerate(tasks)]
        labels = [predictor.labels for predictor in chosen if predictor.labels is not None]
        scores = rank_labels(engine, [predictor.prompt.weights for predictor in chosen], labels, queries)
        return [Answer(*self.predictors[task].answer(row)) for task, row in zip(tasks, scores, strict=True)]

    def _text(self, request: Request, index: int) -> str:
        predictor = self.predictors.get(request.task)
        if predictor is None:
            known = ", ".join(sorted(self.predictors)) or "none"
            raise InvalidInput(f"row {index}: no such task `{request.task}`; there are: {known}", do="name one of them")
        columns = dict.fromkeys(template_fields(predictor.spec.data.input))
        missing = [column for column in columns if column not in request.row]
        if missing:
            raise InvalidInput(
                f"row {index}: the column `{missing[0]}` is missing", do=f"{request.task} needs {', '.join(columns)}"
            )
        return text_of(predictor.spec, {column: request.row[column] for column in columns}, index)
