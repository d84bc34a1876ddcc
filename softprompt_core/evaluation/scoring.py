"""Score prompts on one list of examples: soft prompts and hand-written ones, all on the same rows in the same process."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.base_model.loading import BaseModel
from softprompt_core.base_model.tokens import answer_ids, answer_room, encode_inputs, input_limit
from softprompt_core.data import Example, spread
from softprompt_core.errors import InvalidInput
from softprompt_core.evaluation.metrics import headline_metric, metric_value
from softprompt_core.evaluation.predictions import Predictions
from softprompt_core.forward import Engine, generate, label_scores, target_losses
from softprompt_core.soft_prompt import SoftPrompt
from softprompt_core.spec import PromptSpec


class Scorer:
    """Scores prompts on fixed examples. Inputs are tokenized once for all prompts of one position and length limit."""

    def __init__(self, base: BaseModel, spec: PromptSpec, examples: Sequence[Example], labels: tuple[str, ...]) -> None:
        self.base, self.spec, self.examples, self.labels = base, spec, list(examples), labels
        self._tree = LabelTree.of(base, labels) if labels else None
        self._room = answer_room(spec, self._tree.ids if self._tree else ())
        self._engines: dict[tuple[str, int], Engine] = {}

    def soft(self, prompt: SoftPrompt, scorer: str) -> Predictions:
        """Answers with a soft prompt. ``scorer`` names it in reports: ``candidate`` or ``champion``.

        Raises:
            InvalidInput: the prompt belongs to another base or leaves no room for an input.
        """
        return self._answers(self.engine(prompt), prompt.weights, scorer)

    def engine(self, prompt: SoftPrompt) -> Engine:
        """The engine over all inputs, cut to what the prompt leaves room for. Raises InvalidInput as ``soft`` does."""
        prompt.fits(self.base)
        limit = input_limit(self.base, prompt.length, self._room, self.spec.data.max_input_tokens)
        key = (prompt.position, limit)
        if key not in self._engines:
            rows, _ = encode_inputs(self.base, [e.input for e in self.examples], limit)
            self._engines[key] = Engine(self.base, prompt.position, rows)
        return self._engines[key]

    def hard(self, template: str) -> Predictions:
        """Answers with a hand-written prompt, a template with ``{input}``."""
        limit = input_limit(self.base, 0, self._room, None)
        rows, lengths = encode_inputs(self.base, [template.format(input=e.input) for e in self.examples], limit)
        room = limit - hard_prompt_length(self.base, template)
        for index, length in enumerate(lengths):
            if length > limit:
                rows[index] = self._shortened(template, self.examples[index].input, room, limit)
        return self._answers(Engine(self.base, "prefix", rows), None, "hard_prompt")

    def _shortened(self, template: str, text: str, room: int, limit: int) -> tuple[int, ...]:
        """Token ids of a hand-written prompt that is too long: the input is cut, never the words around it."""
        (ids,) = self.base.vocabulary.encode([text])
        while True:
            beginning = self.base.tokenizer.decode(ids[:room], clean_up_tokenization_spaces=False) if room > 0 else ""
            (row,), (length,) = encode_inputs(self.base, [template.format(input=beginning)], limit)
            if length <= limit or room <= 0:
                return row
            room = min(room, len(ids)) - (length - limit)  # where words meet, a text may have more tokens than its parts

    def _answers(self, engine: Engine, prompt: Tensor | None, scorer: str) -> Predictions:
        if self._tree is not None:
            scores = label_scores(engine, prompt, self._tree)
            predicted = [self.labels[i] for i in scores.argmax(dim=1).tolist()]
            gold = torch.tensor([self.labels.index(e.target) for e in self.examples])
            losses = -scores.gather(1, gold[:, None])[:, 0]
            per_label = tuple(tuple(row) for row in scores.tolist())
        else:
            options = self.spec.evaluation
            predicted = generate(engine, prompt, max_new_tokens=options.max_new_tokens, num_beams=options.num_beams)
            # Gold answers are cut as in training: a longer one could not be generated either.
            gold_ids = [answer_ids(self.base, e.target, close=True)[: self._room] for e in self.examples]
            losses = target_losses(engine, prompt, gold_ids)
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


def hard_prompt_length(base: BaseModel, template: str) -> int:
    """Tokens of a hand-written prompt without its input."""
    return encode_inputs(base, [template.format(input="")], 1)[1][0]


def check_hard_prompts(base: BaseModel, spec: PromptSpec, labels: Sequence[Sequence[int]]) -> None:
    """Whether the spec's hand-written prompts leave room for an input.

    Args:
        labels: token ids of every label; empty for generation.

    Raises:
        InvalidInput: one does not.
    """
    limit = input_limit(base, 0, answer_room(spec, labels), None)
    for template in spec.evaluation.hard_prompts:
        length = hard_prompt_length(base, template)
        if length >= limit:
            raise InvalidInput(
                f"{textwrap.shorten(repr(template), 80, placeholder=' …')} has {length} tokens, and the base's context leaves "
                f"{limit} for it and its input",
                where="evaluation.hard_prompts",
                do="use a shorter one",
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
    templates = spec.evaluation.hard_prompts or _fitting(base, spec, labels, default_hard_prompts(labels))
    if len(templates) == 1:
        return templates[0], Scorer(base, spec, test, labels).hard(templates[0])
    chooser, metric = Scorer(base, spec, spread(validation, 200), labels), headline_metric(labels)
    values = [metric_value(chooser.hard(template), metric) for template in templates]
    best = max(range(len(templates)), key=lambda i: (values[i] if math.isfinite(values[i]) else -math.inf, -i))
    return templates[best], Scorer(base, spec, test, labels).hard(templates[best])


def _fitting(base: BaseModel, spec: PromptSpec, labels: tuple[str, ...], templates: tuple[str, ...]) -> tuple[str, ...]:
    """The first, and those of the others that leave room for an input: the names of many labels may fill the context."""
    room = answer_room(spec, LabelTree.of(base, labels).ids if labels else ())
    limit = input_limit(base, 0, room, None)
    return (templates[0], *(t for t in templates[1:] if hard_prompt_length(base, t) < limit))
