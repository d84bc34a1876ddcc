"""Labels as a tree of tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.errors import InvalidInput
from softprompt_core.forward import Engine, label_scores
from tests.base_model.tokenizers import any_tokenizer, byte_pairs, with_tokenizer, word_list


def test_labels_with_different_first_tokens_need_one_token():
    labels = LabelTree.from_ids([(5, 6, 7, 2), (8, 2), (9, 6, 2)])
    assert labels.ids == ((5,), (8,), (9,))
    assert labels.allowed == (((5, 8, 9),),) * 3


def test_labels_are_cut_after_their_last_branching():
    labels = LabelTree.from_ids([(5, 6, 7, 2), (5, 6, 8, 2), (9, 2)])
    assert labels.ids == ((5, 6, 7), (5, 6, 8), (9,))
    assert labels.allowed[0] == ((5, 9), (6,), (7, 8))


def test_a_label_that_begins_another_is_told_apart_by_its_end(tiny):
    labels = LabelTree.of(tiny, ["no", "no no", "yes"])
    end = tiny.tokenizer.eos_token_id
    assert labels.ids[0][-1] == end and labels.ids[1][-1] != end
    assert labels.ids[0][:-1] == labels.ids[1][: len(labels.ids[0]) - 1]


def test_equal_tokens_are_refused(tiny):
    with pytest.raises(InvalidInput, match="same tokens"):
        LabelTree.of(tiny, ["no", "yes", "no"])


LABEL_WORDS = st.lists(
    st.lists(st.sampled_from(["not", "sure", "yes", "no", "o", "</s>", "日本", "question", " "]), min_size=1, max_size=3).map(
        " ".join
    ),
    min_size=2,
    max_size=5,
    unique=True,
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(any_tokenizer, LABEL_WORDS, st.sampled_from(["prefix", "suffix"]))
def test_probabilities_of_the_labels_add_up_to_one_for_every_tokenizer_or_the_labels_are_refused(
    tiny, tokenizer, words, position
):
    base = with_tokenizer(tiny, tokenizer)
    try:
        labels = LabelTree.of(base, words)
    except InvalidInput:
        return
    prompt = torch.randn(3, base.hidden_size, generator=torch.Generator().manual_seed(1)) * base.embedding_rms
    engine = Engine(base, position, [(7, 8, 9), (30,)])
    for scores in (label_scores(engine, prompt, labels), label_scores(engine, None, labels)):
        torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(2), rtol=1e-4, atol=1e-4)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.sets(st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple), min_size=1, max_size=8))
def test_a_tree_is_made_of_sequences_of_which_none_begins_another_and_of_no_others(sequences):
    begins = any(a != b and b[: len(a)] == a for a in sequences for b in sequences)
    if begins:
        with pytest.raises(ValueError, match="begin another"):
            LabelTree.from_ids(sorted(sequences))
        return
    labels = LabelTree.from_ids(sorted(sequences))
    logits = torch.randn(sum(map(len, labels.ids)), 4)
    # The logits at a node are the same for all labels that pass through it.
    node = {}
    tokens = [(n, depth) for n, ids in enumerate(labels.ids) for depth in range(len(ids))]
    rows = torch.stack([node.setdefault(labels.ids[n][:depth], logits[i]) for i, (n, depth) in enumerate(tokens)])
    parts = labels.log_probabilities(rows, tokens).split(list(map(len, labels.ids)))
    torch.testing.assert_close(sum(part.sum().exp() for part in parts), torch.tensor(1.0))


def test_without_an_end_token_a_label_that_begins_another_is_refused(tiny):
    base = with_tokenizer(tiny, byte_pairs(end=False))
    assert len(LabelTree.of(base, ["no", "yes", "maybe"])) == 3
    with pytest.raises(InvalidInput, match=r"'not' begins 'not sure'.*no end token"):
        LabelTree.of(base, ["yes", "not sure", "not"])


def test_a_label_that_the_base_does_not_know_is_refused(tiny):
    base = with_tokenizer(tiny, word_list(["good", "bad"]))
    assert len(LabelTree.of(base, ["good", "bad", "good news"])) == 3
    with pytest.raises(InvalidInput, match=r"data\.target\.labels: this base does not know the label 'splendid'"):
        LabelTree.of(base, ["good", "splendid"])


def test_log_probabilities_look_at_the_alternatives_only():
    labels = LabelTree.from_ids([(1, 3, 9), (1, 4, 9), (2, 9)])
    logits = torch.randn(3, 12)
    scores = labels.log_probabilities(logits, [(0, 0), (0, 1), (2, 0)])
    expected = [logits[0, [1, 2]].log_softmax(0)[0], logits[1, [3, 4]].log_softmax(0)[0], logits[2, [1, 2]].log_softmax(0)[1]]
    torch.testing.assert_close(scores, torch.stack(expected))
