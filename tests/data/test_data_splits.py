"""Made splits: disjoint, stratified, seeded, and stable when rows are added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt_core.data import prepare
from softprompt_core.data.rows import Row, normalised
from softprompt_core.data.splits import make_splits
from softprompt_core.errors import InvalidInput

SHARES = {"test": 0.2, "validation": 0.1}
Pairs = list[tuple[str, str]]


def rows_of(pairs: Pairs) -> list[Row]:
    return [Row("train", index, text, label, normalised(text)) for index, (text, label) in enumerate(pairs)]


def split_up(
    pairs: Pairs, shares: dict[str, float] = SHARES, seed: int = 0, stratified: bool = True, keep: int = 2
) -> dict[str, list[Row]]:
    return make_splits(rows_of(pairs), shares, seed=seed, stratified=stratified, keep=keep)


texts = st.text(alphabet="abAB ", min_size=1, max_size=6)
repeated = st.lists(st.tuples(texts, st.sampled_from("xyz")), min_size=1, max_size=80)
unique = st.lists(st.integers(0, 10_000), unique=True, min_size=1, max_size=200)
shares = st.fixed_dictionaries({"test": st.floats(0.05, 0.45), "validation": st.floats(0.05, 0.45)})


@given(repeated, shares, st.integers(0, 5), st.booleans())
def test_every_row_has_one_split_and_equal_texts_share_it(
    pairs: Pairs, given_shares: dict[str, float], seed: int, stratified: bool
) -> None:
    splits = split_up(pairs, given_shares, seed, stratified)
    assert sorted(row.index for rows in splits.values() for row in rows) == list(range(len(pairs)))
    keys = [{row.key for row in rows} for rows in splits.values()]
    assert sum(map(len, keys)) == len(set.union(*keys))
    assert all([row.index for row in rows] == sorted(row.index for row in rows) for rows in splits.values())


@given(unique, shares, st.integers(0, 5))
def test_single_texts_keep_the_shares_of_each_label(numbers: list[int], given_shares: dict[str, float], seed: int) -> None:
    pairs = [(f"text {n}", "xyz"[n % 3]) for n in numbers]
    splits = split_up(pairs, given_shares, seed)
    for label, total in Counter(label for _, label in pairs).items():
        for split, share in given_shares.items():
            assert abs(sum(row.target == label for row in splits[split]) - share * total) <= 1


@given(unique, st.integers(0, 5))
def test_a_label_with_enough_rows_stands_in_every_split(numbers: list[int], seed: int) -> None:
    splits = split_up([(f"text {n}", "x") for n in numbers], seed=seed, keep=2)
    if len(numbers) >= 4:
        assert all(splits.values())
    if len(numbers) >= 2:
        assert len(splits["train"]) >= 2


@given(unique, st.integers(10_001, 20_000), st.integers(0, 5))
def test_an_added_row_moves_at_most_one_text_at_each_border_and_no_other_label(numbers: list[int], added: int, seed: int) -> None:
    pairs = [(f"text {n}", "xyz"[n % 3]) for n in numbers]

    def placed(pairs: Pairs) -> dict[str, str]:
        return {row.input: split for split, rows in split_up(pairs, seed=seed).items() for row in rows}

    before, after = placed(pairs), placed([*pairs, (f"text {added}", "x")])
    moved = [text for text, label in pairs if before[text] != after[text]]
    assert all(dict(pairs)[text] == "x" for text in moved)
    assert len(moved) <= 2


@given(unique, st.randoms(use_true_random=False))
def test_row_order_does_not_change_the_splits(numbers: list[int], random: Any) -> None:
    pairs = [(f"text {n}", "xyz"[n % 3]) for n in numbers]
    shuffled = random.sample(pairs, len(pairs))
    assert [{r.input for r in rows} for rows in split_up(pairs).values()] == [
        {r.input for r in rows} for rows in split_up(shuffled).values()
    ]


def test_another_seed_makes_other_splits_of_the_same_size() -> None:
    pairs = [(f"text {n}", "xy"[n % 2]) for n in range(200)]
    first, second = split_up(pairs, seed=0), split_up(pairs, seed=1)
    assert [len(rows) for rows in first.values()] == [len(rows) for rows in second.values()] == [140, 40, 20]
    shared = {r.input for r in first["test"]} & {r.input for r in second["test"]}
    assert len(shared) < 20


def test_a_text_with_half_of_all_rows_does_not_swallow_a_small_split() -> None:
    pairs = [("the same", "x")] * 100 + [(f"text {n}", "x") for n in range(100)]
    for seed in range(5):
        splits = split_up(pairs, seed=seed)
        assert [len(rows) for rows in splits.values()] == [140, 40, 20]


def test_shares_are_rounded_to_the_nearest_number_of_rows() -> None:
    splits = split_up([(f"text {n}", "x") for n in range(13)])
    assert [len(splits[split]) for split in ("test", "validation")] == [3, 1]


def test_a_split_that_rounding_left_empty_is_given_the_rarest_text() -> None:
    pairs = [("the same", "x")] * 3 + [(f"text {n}", "x") for n in range(3)]
    for seed in range(10):
        assert len(split_up(pairs, {"test": 0.05}, seed=seed)["test"]) == 1


def test_generation_is_shared_out_as_a_whole() -> None:
    splits = split_up([(f"text {n}", f"target {n}") for n in range(100)], stratified=False, keep=1)
    assert [len(splits[split]) for split in ("train", "test", "validation")] == [70, 20, 10]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(texts.filter(str.strip), st.sampled_from("xy")), min_size=40, max_size=80), st.integers(0, 3))
def test_prepare_never_lets_a_text_stand_in_two_splits(pairs: Pairs, seed: int) -> None:
    from softprompt_core.spec import parse_spec

    data = {
        "source": {"files": {"train": "unused.jsonl"}},
        "input": "{text}",
        "target": {"column": "label"},
        "splits": {"seed": seed},
    }
    try:
        prepared = prepare(parse_spec({"name": "toy", "data": data}), pd.DataFrame(pairs, columns=["text", "label"]))
    except InvalidInput:  # too few different texts
        return
    keys = [{normalised(e.input) for e in prepared.splits[split]} for split in ("train", "validation", "test")]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])
    assert sum(len(rows) for rows in prepared.splits.values()) == len(pairs)


def frame(prefix: str, count: int) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"{prefix} {i}" for i in range(count)], "label": ["ab"[i % 2] for i in range(count)]})


@pytest.mark.parametrize(
    ("given_splits", "sizes"),
    [
        ({"train": 100}, (70, 10, 20)),
        ({"train": 100, "test": 30}, (90, 10, 30)),
        ({"train": 100, "validation": 30}, (80, 30, 20)),
        ({"train": 100, "validation": 30, "test": 40}, (100, 30, 40)),
    ],
)
def test_only_missing_splits_are_made(spec: Callable[..., Any], given_splits: dict[str, int], sizes: tuple[int, ...]) -> None:
    data = prepare(spec(), {name: frame(name, count) for name, count in given_splits.items()})
    assert tuple(len(data.splits[split]) for split in ("train", "validation", "test")) == sizes
    assert {name for name, split in data.report.splits.items() if split.rows_read is not None} == set(given_splits)


def test_a_made_row_keeps_the_id_of_the_row_that_it_was(spec: Callable[..., Any]) -> None:
    rows = frame("train", 50)
    data = prepare(spec(), rows)
    ids = {e.id: e.input for split in data.splits.values() for e in split}
    assert ids == {f"train/{i}": text for i, text in enumerate(rows.text)}


def test_train_rows_that_stand_in_a_given_test_split_are_removed_before_validation_is_made(spec: Callable[..., Any]) -> None:
    data = prepare(spec(), {"train": frame("row", 100), "test": frame("row", 60)})
    assert [len(data.splits[split]) for split in ("train", "validation", "test")] == [36, 4, 60]


def test_too_few_rows_for_three_splits_is_a_plain_error(spec: Callable[..., Any]) -> None:
    with pytest.raises(InvalidInput, match="train has too few rows to make it from"):
        prepare(spec(), frame("train", 4))
