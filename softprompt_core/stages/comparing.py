"""Two versions of a task side by side: metrics, changed answers, settings, and what their vectors lie next to."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from softprompt_core import registry
from softprompt_core.base_model import load_base
from softprompt_core.errors import InvalidInput, SoftpromptError
from softprompt_core.evaluation import Predictions, all_metrics
from softprompt_core.interpretation import Likeness, likeness, nearest_tokens
from softprompt_core.registry import Version, tags
from softprompt_core.report import ChangedAnswers, changed_answers, same_rows
from softprompt_core.serving import SPEC_FILE
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import load_spec
from softprompt_core.stages.evidence import EVIDENCE_FILE
from softprompt_core.stages.gate_report import ROWS

if TYPE_CHECKING:
    from mlflow import MlflowClient

_EXAMPLES = "evaluation/examples.json"


@dataclass(frozen=True)
class Comparison:
    """Version ``b`` against version ``a``.

    Attributes:
        metrics: metric → (a, b) on each version's own test rows, or on the same rows where ``rows`` says so.
        rows: which answers were compared, or why none could be.
        spec: key → (a, b), where they differ.
        tokens: for each vector the nearest tokens of a and of b; None where the base cannot be loaded.
        vectors: cosines between the vectors; None where they live on different bases.
    """

    task: str
    a: int
    b: int
    metrics: Mapping[str, tuple[float | None, float | None]]
    rows: str
    changed: ChangedAnswers | None
    spec: Mapping[str, tuple[Any, Any]]
    tokens: tuple[tuple[tuple[str, ...], ...] | None, tuple[tuple[str, ...], ...] | None]
    vectors: Likeness | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        changed = None if self.changed is None else self.changed.to_json()
        return {**asdict(self), "changed": changed, "vectors": None if self.vectors is None else self.vectors.to_json()}


def compare(client: MlflowClient, name: str, a: str, b: str) -> Comparison:
    """Compare two versions by what is stored about them; nothing is scored anew.

    Args:
        a, b: version numbers or aliases.

    Raises:
        InvalidInput: no such version.
    """
    one, other = resolve_version(client, name, a), resolve_version(client, name, b)
    answers, rows = _answers(client, one, other)
    first, second = answers or (stored_answers(client, one), stored_answers(client, other))
    with tempfile.TemporaryDirectory() as scratch:
        folders = [registry.download(client, name, v.version, Path(scratch) / str(v.version)) for v in (one, other)]
        prompts = [SoftPrompt.load(folder / FILE_NAME) for folder in folders]
        written = [yaml.safe_load((folder / SPEC_FILE).read_text(encoding="utf-8")) for folder in folders]
        near, notes = zip(*(_tokens(folder, prompt) for folder, prompt in zip(folders, prompts, strict=True)), strict=True)
    same_base = prompts[0].base.fingerprint == prompts[1].base.fingerprint
    said = [note for note in dict.fromkeys(notes) if note]
    if not same_base:
        said.append(f"trained on different bases ({prompts[0].base.short}, {prompts[1].base.short}): vectors cannot be compared")
    return Comparison(
        task=name,
        a=one.version,
        b=other.version,
        metrics=_metrics(first, second),
        rows=rows,
        changed=changed_answers(*answers, _inputs(client, other) or _inputs(client, one)) if answers is not None else None,
        spec=_differences(_flat(written[0]), _flat(written[1])),
        tokens=(near[0], near[1]),
        vectors=likeness(prompts[0].weights, prompts[1].weights) if same_base else None,
        notes=tuple(said),
    )


def resolve_version(client: MlflowClient, name: str, given: str) -> Version:
    """A version by number, ``v3``, or alias.

    Raises:
        InvalidInput: there is none.
    """
    number = given.removeprefix("v")
    if number.isascii() and number.isdigit():
        return registry.get(client, name, int(number))
    found = registry.by_alias(client, name, given)
    if found is None:
        do = f"give a number or an alias; `softprompt registry show {name}` shows what there is"
        raise InvalidInput("no version has this alias", where=f"{name}@{given}", do=do)
    return found


def stored_answers(client: MlflowClient, version: Version) -> Predictions | None:
    """What a version answered to the test rows when it was judged; None where its run does not tell any more."""
    found = registry.read_json(client, version.run_id, EVIDENCE_FILE)
    try:
        return None if found is None else Predictions.from_json(found["candidate"])
    except (KeyError, TypeError, ValueError):  # an older release of this library wrote it in another form
        return None


def _answers(client: MlflowClient, a: Version, b: Version) -> tuple[tuple[Predictions, Predictions] | None, str]:
    """Answers of both to the same rows, and where they are from."""
    own_a, own_b = stored_answers(client, a), stored_answers(client, b)
    if own_a is None or own_b is None:
        return None, "the run of a version no longer holds its answers"
    rows = _test_rows(client, a)
    if rows is not None and rows == _test_rows(client, b) and same_rows(own_a, own_b):
        return (own_a, own_b), f"both on the same {len(own_b)} test rows"
    # When one was judged, the other may have been champion, and answered the same rows.
    for judged, against in ((b, a), (a, b)):
        compared = client.get_run(judged.run_id).data.tags.get(tags.COMPARED_WITH)
        found = registry.read_json(client, judged.run_id, EVIDENCE_FILE) if compared == str(against.version) else None
        if found is not None and found["champion"] and found["champion"]["ids"]:
            pair = Predictions.from_json(found["champion"]), Predictions.from_json(found["candidate"])
            said = (
                f"on the {len(pair[1])} test rows on which version {judged.version} was judged against version {against.version}"
            )
            return (pair if judged is b else (pair[1], pair[0])), said
    return None, "their stored answers are not to the same test rows: metrics are of different rows, and changes cannot be told"


def _test_rows(client: MlflowClient, version: Version) -> list[str] | None:
    found = registry.read_json(client, version.run_id, ROWS)
    return None if found is None else list(found["test"])


def _inputs(client: MlflowClient, version: Version) -> dict[str, str]:
    found = registry.read_json(client, version.run_id, _EXAMPLES)
    if found is None:
        return {}
    places = [found["columns"].index(column) for column in ("id", "input")]
    return {str(row[places[0]]): str(row[places[1]]) for row in found["data"]}


def _metrics(a: Predictions | None, b: Predictions | None) -> dict[str, tuple[float | None, float | None]]:
    both = [all_metrics(p) if p is not None else {} for p in (a, b)]
    return {name: (both[0].get(name), both[1].get(name)) for name in dict.fromkeys((*both[0], *both[1]))}


def _tokens(folder: Path, prompt: SoftPrompt) -> tuple[tuple[tuple[str, ...], ...] | None, str]:
    try:
        base = load_base(load_spec(folder / SPEC_FILE).base_model)
        prompt.require_base(base.identity)
    except SoftpromptError as error:
        return None, f"nearest tokens are not known: {error.what}"
    found = nearest_tokens(base, prompt.weights, 3)
    return tuple(tuple(f"{token.text} {token.cosine:.2f}" for token in row) for row in found), ""


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {key: leaf for k, v in value.items() for key, leaf in _flat(v, f"{path}.{k}".lstrip(".")).items()}
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return {key: leaf for i, v in enumerate(value) for key, leaf in _flat(v, f"{path}[{i}]").items()}
    return {path: value}


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys that differ. A key that a spec leaves out has its default there, shown as None."""
    return {key: (a.get(key), b.get(key)) for key in dict.fromkeys((*a, *b)) if a.get(key) != b.get(key)}
