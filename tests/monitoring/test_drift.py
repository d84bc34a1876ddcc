"""Drift that is there is found, and rows from the same source are left alone."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.evaluation import Predictions
from softprompt_core.monitoring import InputProfile, drift_checks, make_profile
from softprompt_core.spec import BaseModelSpec
from tests.tiny_models import save_tiny

NEWS, SPORT = "news world question answer maybe sure".split(), "sport film book great poor bad".split()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return load_base(BaseModelSpec(id=str(save_tiny(tmp_path_factory.mktemp("base") / "llama", "llama")), device="cpu"))


def texts(words: list[str], count: int, seed: int, longest: int = 8) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(words, k=source.randint(3, longest))) for _ in range(count)]


def answers(positive: float, rows: int, seed: int) -> Predictions:
    share = np.clip(np.random.default_rng(seed).normal(positive, 0.1, rows), 0.01, 0.99)
    scores = tuple((float(np.log(1 - p)), float(np.log(p))) for p in share)
    ids, none, loss = tuple(map(str, range(rows))), ("",) * rows, (0.0,) * rows
    return Predictions(
        scorer="champion", ids=ids, gold=none, predicted=none, loss=loss, slices={}, labels=("no", "yes"), scores=scores
    )


def compare(trained: InputProfile | None, new: InputProfile, **settings: object) -> dict[str, str]:
    """What was looked at → status."""
    checks = drift_checks(trained, new, **{"labels": None, "answers": None, "confidence": 0.95, **settings})  # type: ignore[arg-type]
    return {check.what: check.status for check in checks}


def test_other_words_of_the_same_length_are_found_by_content_alone(base: BaseModel) -> None:
    trained, new = make_profile(base, texts(NEWS, 150, 0)), make_profile(base, texts(SPORT, 150, 1))
    assert compare(trained, new) == {"input length": "ok", "input content": "shifted"}


def test_longer_inputs_are_found(base: BaseModel) -> None:
    trained, new = make_profile(base, texts(NEWS, 150, 0)), make_profile(base, texts(NEWS, 150, 1, longest=30))
    assert compare(trained, new)["input length"] == "shifted"


def test_rows_of_the_same_source_are_rarely_called_shifted(base: BaseModel) -> None:
    trained = make_profile(base, texts(NEWS + SPORT, 200, 0))
    wrong = 0
    for seed in range(1, 31):
        both = answers(0.6, 200, 0), answers(0.6, 100, seed)
        statuses = compare(trained, make_profile(base, texts(NEWS + SPORT, 100, seed)), answers=both)
        wrong += "shifted" in statuses.values()
    assert wrong <= 4  # 1.5 expected at 95 %


def test_another_mix_of_labels_is_found_but_not_a_significant_trifle(base: BaseModel) -> None:
    profile = make_profile(base, texts(NEWS, 40, 0))

    def mix(new: dict[str, int], trained: dict[str, int] | None = None) -> str:
        return compare(None, profile, labels=(trained or {"no": 500, "yes": 500}, new))["mix of labels"]

    assert mix({"no": 150, "yes": 50}) == "shifted"
    assert mix({"no": 104, "yes": 96}) == "ok"
    assert mix({"no": 51_000, "yes": 49_000}, {"no": 50_000, "yes": 50_000}) == "ok"
    assert mix({"no": 0, "yes": 200}) == "shifted"


def test_other_answers_are_found_without_labels(base: BaseModel) -> None:
    profile = make_profile(base, texts(NEWS, 40, 0))
    assert compare(None, profile, answers=(answers(0.6, 200, 0), answers(0.8, 100, 1))) == {"mix of answers": "shifted"}


def test_vectors_of_another_base_are_not_compared(base: BaseModel, tmp_path: Path) -> None:
    other = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / "other", "llama", seed=5)), device="cpu"))
    assert "input content" not in compare(make_profile(base, texts(NEWS, 40, 0)), make_profile(other, texts(NEWS, 40, 0)))


def test_a_profile_is_small_and_keeps_no_text(base: BaseModel) -> None:
    profile = make_profile(base, texts(NEWS, 2000, 0))
    assert len(profile.words) == 500 and np.shape(profile.vectors) == (500, 32)
    written = profile.model_dump(mode="json")
    assert InputProfile.model_validate(json.loads(json.dumps(written))) == profile and "news" not in str(written)
    assert make_profile(base, []).words == ()


def test_a_profile_of_the_release_before_reads_and_writes_the_same() -> None:
    stored = '{"base": "abc", "words": [3, 4], "vectors": [[0.1, -0.25], [1.5, 2.0]]}'
    assert json.dumps(InputProfile.model_validate_json(stored).model_dump(mode="json")) == stored
