"""Score prompts on one list of examples: soft prompts and hand-written ones, all on the same rows in the same process."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt_core.base_model import BaseModel
from softprompt_core.data import Example, spread
from softprompt_core.encoding import answer_ids, encode_inputs, input_limit
from softprompt_core.evaluation.metrics import headline_metric, metric_value
from softprompt_core.evaluation.predictions import Predictions
from softprompt_core.forward import Engine, generate, label_scores, target_losses
from softprompt_core.label_words import LabelTokens
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import PromptSpec


class Scorer:
    """Scores prompts on fixed examples. Inputs are encoded once a prompt position and shared by every prompt scored there."""

    def __init__(self, base: BaseModel, spec: PromptSpec, examples: Sequence[Example], labels: tuple[str, ...]) -> None:
        self.base, self.spec, self.examples, self.labels = base, spec, list(examples), labels
        self._label_tokens = LabelTokens.of(base, labels) if labels else None
        self._targets = [answer_ids(base, e.target, close=True) for e in self.examples] if not labels else []
        self._engines: dict[tuple[str, int], Engine] = {}

    def soft(self, prompt: SoftPrompt, scorer: str) -> Predictions:
        """Answers with a soft prompt. ``scorer`` names it in reports: ``candidate`` or ``champion``.

        Raises:
            InvalidInput: the prompt belongs to another base or leaves no room for an input.
        """
        prompt.fits(self.base)
        limit = input_limit(self.base, prompt.length, self._answer_room(), self.spec.data.max_input_tokens)
        key = (prompt.position, limit)
        if key not in self._engines:
            rows, _ = encode_inputs(self.base, [e.input for e in self.examples], limit)
            self._engines[key] = Engine(self.base, prompt.position, rows)
        return self._answers(self._engines[key], prompt.weights, scorer)

    def hard(self, template: str) -> Predictions:
        """Answers with a hand-written prompt, a template with ``{input}``."""
        limit = input_limit(self.base, 0, self._answer_room(), None)
        (frame,), _ = encode_inputs(self.base, [template.format(input="")], limit)
        # The input is cut, never the hand-written words around it.
        inputs = [self._cut(e.input, max(limit - len(frame), 1)) for e in self.examples]
        rows, _ = encode_inputs(self.base, [template.format(input=text) for text in inputs], limit)
        return self._answers(Engine(self.base, "prefix", rows), None, "hard_prompt")

    def _cut(self, text: str, tokens: int) -> str:
        if len(text) <= tokens:  # a token is at least a byte
            return text
        ids = self.base.tokenizer(text, add_special_tokens=False)["input_ids"]
        return text if len(ids) <= tokens else str(self.base.tokenizer.decode(ids[:tokens]))

    def _answer_room(self) -> int:
        longest = max(len(ids) for ids in (self._label_tokens.ids if self._label_tokens else self._targets))
        return longest if self.labels else max(longest, self.spec.evaluation.max_new_tokens)

    def _answers(self, engine: Engine, prompt: Tensor | None, scorer: str) -> Predictions:
        if self._label_tokens is not None:
            scores = label_scores(engine, prompt, self._label_tokens)
            predicted = [self.labels[i] for i in scores.argmax(dim=1).tolist()]
            gold = torch.tensor([self.labels.index(e.target) for e in self.examples])
            losses = -scores.gather(1, gold[:, None])[:, 0]
            per_label = tuple(tuple(row) for row in scores.tolist())
        else:
            options = self.spec.evaluation
            predicted = generate(engine, prompt, max_new_tokens=options.max_new_tokens, num_beams=options.num_beams)
            losses = target_losses(engine, prompt, self._targets)
            per_label = ()
        return Predictions(
            scorer=scorer,
            ids=tuple(e.id for e in self.examples),
            gold=tuple(e.target for e in self.examples),
            predicted=tuple(predicted),
            loss=tuple(losses.tolist()),
            slices={name: tuple(name in e.slices for e in self.examples) for name in self.spec.data.slices},
            labels=self.labels,
            scores=per_label,
        )


def default_hard_prompts(labels: Sequence[str]) -> tuple[str, ...]:
    """What a person would try first, for specs that name no hand-written prompt."""
    if not labels:
        return ("{input}\nAnswer:",)
    listed = ", ".join(labels[:-1]) + f" or {labels[-1]}"
    listed = listed.replace("{", "{{").replace("}", "}}")
    return ("{input}\nAnswer:", f"{{input}}\nIs this {listed}? Answer:")


def best_hard_prompt(
    base: BaseModel, spec: PromptSpec, validation: Sequence[Example], test: Sequence[Example], labels: tuple[str, ...]
) -> tuple[str, Predictions]:
    """The hand-written prompt that is best on validation, with its answers to the test rows.

    The choice is made on validation rows (at most 200), never on test rows.
    """
    templates = spec.evaluation.hard_prompts or default_hard_prompts(labels)
    if len(templates) == 1:
        return templates[0], Scorer(base, spec, test, labels).hard(templates[0])
    chooser, metric = Scorer(base, spec, spread(validation, 200), labels), headline_metric(labels)
    values = [metric_value(chooser.hard(template), metric) for template in templates]
    best = max(range(len(templates)), key=lambda i: (values[i] if math.isfinite(values[i]) else -math.inf, -i))
    return templates[best], Scorer(base, spec, test, labels).hard(templates[best])
