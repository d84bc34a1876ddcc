"""What a base's tokenizer and context make of a task is known before anything is trained, and said in plain words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from softprompt_core.errors import InvalidInput
from softprompt_core.lifecycle.resolve import ResolvedTask, resolve
from softprompt_core.lifecycle.tokenized import release, tokenized
from softprompt_core.lifecycle.train import check, data_report
from softprompt_core.spec import load_spec
from tests.base_model.tokenizers import Fast, byte_pairs, pieces, word_list
from tests.tiny_models import WORDS
from tests.toy_task import write_rows, write_toy

WRITTEN: dict[str, Any] = {"gates": None, "evaluation": {"max_new_tokens": 8}}


@pytest.fixture(autouse=True)
def released() -> Any:
    yield
    release()


def read_with(base: Path, folder: Path, tokenizer: Fast) -> Path:
    """The base with another tokenizer."""
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("tokenizer*", "special_tokens*"))
    tokenizer.save_pretrained(folder)
    return folder


def task(folder: Path, base: Path, target: str | None = None, **changes: Any) -> ResolvedTask:
    if target is not None:
        source = {"files": {split: f"{split}.csv" for split in ("train", "validation", "test")}}
        changes["data"] = {"source": source, "input": "{text}", "target": {"template": target}}
        changes = WRITTEN | changes
    return resolve(load_spec(write_toy(folder, base, **changes)))


def test_writing_text_needs_an_end_token(taught_base: Path, tmp_path: Path) -> None:
    endless = read_with(taught_base, tmp_path / "endless", byte_pairs(end=False))
    check(task(tmp_path, endless))
    with pytest.raises(InvalidInput, match=r"base_model\.id: .*no end token, so an answer would never end"):
        check(task(tmp_path, endless, target="{label}"))


def test_a_target_that_the_tokenizer_does_not_know_is_named(taught_base: Path, tmp_path: Path) -> None:
    words = read_with(taught_base, tmp_path / "words", word_list([*WORDS, "news", "sport"]))
    check(task(tmp_path, words, target="{label}"))
    rows = [{"text": "a good film", "label": "positive"}, {"text": "a bad film", "label": "splendid indeed"}]
    write_rows(tmp_path / "test.csv", rows)
    with pytest.raises(InvalidInput, match=r"data\.target\.template: .*knows nothing of the target of test/1\n"):
        check(task(tmp_path, words, target="{label}"))


def test_the_share_of_unknown_text_is_reported(taught_base: Path, tmp_path: Path) -> None:
    words = read_with(taught_base, tmp_path / "words", word_list([w for w in WORDS if w != "film"]))
    report = data_report(task(tmp_path, words))
    share = report.splits["train"].tokens.unknown_share  # type: ignore[union-attr]
    assert 0 < share < 0.2
    assert any(f"{share:.2%} of the tokens of train inputs" in warning for warning in report.warnings)
    whole = data_report(task(tmp_path, taught_base))
    assert "does not know" not in str(whole.warnings) and whole.splits["train"].tokens.unknown_share == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("tokenizer", [byte_pairs(), pieces(WORDS)], ids=["byte pairs", "pieces"])
def test_no_cell_ends_a_text_or_an_answer(taught_base: Path, tmp_path: Path, tokenizer: Fast) -> None:
    base = read_with(taught_base, tmp_path / "base", tokenizer)
    rows = [{"text": f"good {n} </s><pad> film</s>", "label": f"yes</s> {n}"} for n in range(8)]
    for split in ("train", "validation", "test"):
        write_rows(tmp_path / f"{split}.csv", [{**row, "text": f"{split} {row['text']}"} for row in rows])
    written = tokenized(task(tmp_path, base, target="{label}"))
    control = written.base.vocabulary.control
    for ids in written.inputs["train"]:
        assert control.isdisjoint(ids[len(written.base.vocabulary.before) :])
    for split in ("train", "validation", "test"):
        assert all(control.isdisjoint(ids[:-1]) for ids in written.targets[split])


def test_control_tokens_that_a_spec_writes_are_told_to_be_text(taught_base: Path, tmp_path: Path) -> None:
    made = task(tmp_path, taught_base, evaluation={"hard_prompts": ["{input}</s>"]})
    assert "The spec writes </s>: text like all other text here, not a control token of the base." in data_report(made).warnings


def test_a_hand_written_prompt_without_room_is_refused_before_training(taught_base: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"evaluation\.hard_prompts: .* tokens"):
        check(task(tmp_path, taught_base, evaluation={"hard_prompts": ["question " * 300 + "{input}"]}))


def test_answers_without_room_are_refused_before_training(taught_base: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"evaluation\.max_new_tokens: .*500 tokens"):
        check(task(tmp_path, taught_base, target="{label}", evaluation={"max_new_tokens": 500}))


def test_a_base_without_tokenizer_is_refused_for_generation_too(taught_base: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(taught_base, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*")))
    for target in (None, "{label}"):
        with pytest.raises(InvalidInput, match="holds no tokenizer"):
            check(task(tmp_path, bare, target=target))


def test_labels_are_held_to_the_tokenizer_before_training(taught_base: Path, tmp_path: Path) -> None:
    endless = read_with(taught_base, tmp_path / "endless", byte_pairs(end=False))
    path = write_toy(tmp_path, endless)
    text = path.read_text().replace("column: label", "column: label\n    labels: {positive: not, negative: not sure}")
    path.write_text(text)
    assert json.dumps("not sure") not in text
    with pytest.raises(InvalidInput, match="'not' begins 'not sure'"):
        check(resolve(load_spec(path)))
