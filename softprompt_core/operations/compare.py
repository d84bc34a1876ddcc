"""Two versions of a task side by side: metrics, changed answers, settings, and what their vectors lie next to."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from softprompt_core.base_model.loading import load_base
from softprompt_core.decisions.reevaluate import stored_inputs, stored_results
from softprompt_core.errors import SoftpromptError
from softprompt_core.evaluation import Predictions, all_metrics
from softprompt_core.evaluation.changes import ChangedAnswers, changed_answers, same_rows
from softprompt_core.evaluation.results import EvaluationResults
from softprompt_core.interpretation import Similarity, nearest_tokens, similarity
from softprompt_core.lifecycle.assess import ROWS_FILE
from softprompt_core.lifecycle.tracking.run import EXAMPLES_FILE
from softprompt_core.serving import SPEC_FILE
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import PromptSpec, load_spec
from softprompt_core.store import run_contents, tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.versions import Version

Tokens = tuple[tuple[str, ...], ...]
"""For each vector its nearest tokens."""


class Comparison(BaseModel):
    """Version ``b`` against version ``a``.

    Attributes:
        metrics: metric → (a, b) on each version's own test rows, or on the same rows where ``rows`` says so.
        rows: which answers were compared, or why none could be.
        spec: key → (a, b), where they differ.
        tokens: of a and of b; None where the base cannot be loaded.
        vectors: cosines between the vectors; None where they live on different bases.
    """

    model_config = ConfigDict(frozen=True)

    task: str
    a: int
    b: int
    metrics: Mapping[str, tuple[float | None, float | None]]
    rows: str
    changed: ChangedAnswers | None
    spec: Mapping[str, tuple[Any, Any]]
    tokens: tuple[Tokens | None, Tokens | None]
    vectors: Similarity | None
    notes: tuple[str, ...]


def compare(store: Store, name: str, a: str, b: str) -> Comparison:
    """Compare two versions by what is stored about them; nothing is scored anew.

    Args:
        a, b: version numbers or aliases.

    Raises:
        InvalidInput: no such version.
    """
    pair = versions.find(store, name, a), versions.find(store, name, b)
    results = stored_results(store, pair[0]), stored_results(store, pair[1])
    answers, rows = _answers_to_same_rows(store, pair, results)
    with tempfile.TemporaryDirectory() as scratch:
        folders = [versions.download(store, name, v.version, Path(scratch) / str(v.version)) for v in pair]
        prompts = [SoftPrompt.load(folder / FILE_NAME) for folder in folders]
        specs = [load_spec(folder / SPEC_FILE) for folder in folders]
    tokens_a, problem_a = _nearest_tokens(specs[0], prompts[0])
    tokens_b, problem_b = _nearest_tokens(specs[1], prompts[1])
    notes = [problem for problem in dict.fromkeys((problem_a, problem_b)) if problem]
    same_base = prompts[0].base.fingerprint == prompts[1].base.fingerprint
    if not same_base:
        notes.append(f"trained on different bases ({prompts[0].base.short}, {prompts[1].base.short}): vectors cannot be compared")
    return Comparison(
        task=name,
        a=pair[0].version,
        b=pair[1].version,
        metrics=_metrics(*(answers or [each.candidate if each else None for each in results])),
        rows=rows,
        changed=changed_answers(*answers, _inputs(store, pair[1]) or _inputs(store, pair[0])) if answers else None,
        spec=_differences(*(_flat(spec.model_dump(mode="json")) for spec in specs)),
        tokens=(tokens_a, tokens_b),
        vectors=similarity(prompts[0].weights, prompts[1].weights) if same_base else None,
        notes=tuple(notes),
    )


def _answers_to_same_rows(
    store: Store, pair: tuple[Version, Version], results: tuple[EvaluationResults | None, EvaluationResults | None]
) -> tuple[tuple[Predictions, Predictions] | None, str]:
    """Answers of both to the same rows, and where they are from."""
    if results[0] is None or results[1] is None:
        return None, "the run of a version no longer holds its answers"
    own = results[0].candidate, results[1].candidate
    rows = [run_contents.read_json(store, version.run_id, ROWS_FILE) for version in pair]
    if rows[0] is not None and rows[1] is not None and rows[0]["test"] == rows[1]["test"] and same_rows(*own):
        return own, f"both on the same {len(own[1])} test rows"
    # When one was assessed, the other may have been champion, and answered the same rows.
    for assessed, reference in ((1, 0), (0, 1)):
        compared_with = store.client.get_run(pair[assessed].run_id).data.tags.get(tags.COMPARED_WITH)
        evaluation = results[assessed]
        champion = evaluation.champion if evaluation else None
        if evaluation is None or champion is None or not len(champion) or compared_with != str(pair[reference].version):
            continue
        against = f"version {pair[assessed].version} was judged against version {pair[reference].version}"
        answers = (champion, evaluation.candidate) if assessed == 1 else (evaluation.candidate, champion)
        return answers, f"on the {len(champion)} test rows on which {against}"
    return None, "their stored answers are not to the same test rows: metrics are of different rows, and changes cannot be told"


def _inputs(store: Store, version: Version) -> dict[str, str]:
    """Row id → input text, of the test rows that a version was evaluated on."""
    return stored_inputs(run_contents.read_json(store, version.run_id, EXAMPLES_FILE))


def _metrics(a: Predictions | None, b: Predictions | None) -> dict[str, tuple[float | None, float | None]]:
    of_a, of_b = (all_metrics(predictions) if predictions is not None else {} for predictions in (a, b))
    return {metric: (of_a.get(metric), of_b.get(metric)) for metric in dict.fromkeys((*of_a, *of_b))}


def _nearest_tokens(spec: PromptSpec, prompt: SoftPrompt) -> tuple[Tokens | None, str]:
    """The tokens next to a version's vectors; or None, and why they are not known."""
    try:
        base = load_base(spec.base_model)
        prompt.require_base(base.identity)
    except SoftpromptError as error:
        return None, f"nearest tokens are not known: {error.what}"
    nearest = nearest_tokens(base, prompt.weights, 3)
    return tuple(tuple(f"{token.text} {token.cosine:.2f}" for token in tokens) for tokens in nearest), ""


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Dotted key → value of a spec's plain data."""
    if isinstance(value, Mapping):
        return {key: leaf for name, part in value.items() for key, leaf in _flat(part, f"{path}.{name}".lstrip(".")).items()}
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return {key: leaf for index, item in enumerate(value) for key, leaf in _flat(item, f"{path}[{index}]").items()}
    return {path: value}


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys that differ. A key that only one has is None in the other."""
    return {key: (a.get(key), b.get(key)) for key in dict.fromkeys((*a, *b)) if a.get(key) != b.get(key)}
