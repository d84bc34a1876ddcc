"""Labels as a tree of tokens."""

from __future__ import annotations

import pytest
import torch

from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.base_model.loading import load_base
from softprompt_core.errors import InvalidInput
from softprompt_core.spec import BaseModelSpec
from tests.tiny_models import save_tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(BaseModelSpec(id=str(save_tiny(tmp_path_factory.mktemp("m") / "llama", "llama"))))


def test_labels_with_different_first_tokens_need_one_token():
    labels = LabelTree.from_ids([(5, 6, 7, 2), (8, 2), (9, 6, 2)])
    assert labels.ids == ((5,), (8,), (9,))
    assert labels.allowed == (((5, 8, 9),),) * 3


def test_labels_are_cut_after_their_last_branching():
    labels = LabelTree.from_ids([(5, 6, 7, 2), (5, 6, 8, 2), (9, 2)])
    assert labels.ids == ((5, 6, 7), (5, 6, 8), (9,))
    assert labels.allowed[0] == ((5, 9), (6,), (7, 8))


def test_a_label_that_begins_another_is_told_apart_by_its_end(base):
    labels = LabelTree.of(base, ["no", "no no", "yes"])
    end = base.tokenizer.eos_token_id
    assert labels.ids[0][-1] == end and labels.ids[1][-1] != end
    assert labels.ids[0][:-1] == labels.ids[1][: len(labels.ids[0]) - 1]


def test_equal_tokens_are_refused(base):
    with pytest.raises(InvalidInput, match="same tokens"):
        LabelTree.of(base, ["no", "yes", "no"])


def test_log_probabilities_look_at_the_alternatives_only():
    labels = LabelTree.from_ids([(1, 3, 9), (1, 4, 9), (2, 9)])
    logits = torch.randn(3, 12)
    scores = labels.log_probabilities(logits, [(0, 0), (0, 1), (2, 0)])
    expected = [logits[0, [1, 2]].log_softmax(0)[0], logits[1, [3, 4]].log_softmax(0)[0], logits[2, [1, 2]].log_softmax(0)[1]]
    torch.testing.assert_close(scores, torch.stack(expected))
