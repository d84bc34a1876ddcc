"""Every fast path equals the plain statement, for every family: logits, losses, label scores and the prompts' gradients."""

from __future__ import annotations

import warnings

import pytest
import torch

from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.base_model.loading import load_base
from softprompt_core.base_model.tokens import TokenizedRow
from softprompt_core.forward import Engine, label_scores, plain_target_logits, rank_labels, target_losses
from softprompt_core.spec import BaseModelSpec
from tests.forward.rows import IDS, INPUTS, LABELS, ROWS, TARGETS, WHOLE, soft
from tests.tiny_models import FAMILIES, save_tiny

FEW = ["llama", "gemma3", "bloom", "t5", "bart"]  # one for each kind of position, where all eleven would tell no more


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    def load(family):
        folder = tmp_path_factory.getbasetemp() / "families" / family
        return load_base(BaseModelSpec(id=str(folder if folder.exists() else save_tiny(folder, family))))

    return load


@pytest.fixture
def base(request, bases):
    return bases(request.param)


all_families = pytest.mark.parametrize("base", list(FAMILIES), indirect=True)
few_families = pytest.mark.parametrize("base", FEW, indirect=True)
positions = pytest.mark.parametrize("position", ["prefix", "suffix"])


def fast_engine(base, position, inputs=INPUTS, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a fast path that is switched off warns
        return Engine(base, position, inputs, **options)


def close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@all_families
@positions
def test_logits_and_gradient_equal_the_plain_path(base, position):
    prompt, engine = soft(base), fast_engine(base, position)
    logits = engine.target_logits(engine.prompts([prompt]), [0, 0, 0], [0, 1, 2], TARGETS)
    fast = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, IDS), prompt)[0]
    expected = torch.cat(plain_target_logits(base, prompt, position, ROWS))
    slow = torch.autograd.grad(torch.nn.functional.cross_entropy(expected, IDS), prompt)[0]
    close(logits, expected)
    assert float(slow.norm()) > 1e-5, "the gradient must not vanish, or the comparison would be empty"
    assert float((fast - slow).norm() / slow.norm()) < 1e-4


@all_families
@positions
def test_prompts_of_different_lengths_share_a_batch(base, position):
    prompts, of, engine = [soft(base), soft(base, 2, seed=8)], [0, 1, 0], fast_engine(base, position)
    ready, carry = engine.prompts(prompts).split()
    logits = engine.target_logits(ready, of, [0, 1, 2], TARGETS)
    torch.nn.functional.cross_entropy(logits, IDS).backward()
    carry()
    expected = torch.cat([plain_target_logits(base, prompts[k], position, [row])[0] for k, row in zip(of, ROWS, strict=True)])
    slow = torch.autograd.grad(torch.nn.functional.cross_entropy(expected, IDS), prompts)
    close(logits, expected)
    for prompt, gradient in zip(prompts, slow, strict=True):
        assert float((prompt.grad - gradient).norm() / gradient.norm()) < 1e-4


@all_families
@positions
def test_label_scores_are_those_of_whole_sequences_among_the_labels(base, position):
    prompt = soft(base).detach()
    got = label_scores(fast_engine(base, position), prompt, LABELS)
    torch.testing.assert_close(got.exp().sum(dim=1), torch.ones(len(ROWS)), rtol=1e-5, atol=1e-5)
    for index, row in enumerate(ROWS):
        for n, label in enumerate(WHOLE):
            logits = plain_target_logits(base, prompt, position, [TokenizedRow(row.input_ids, label)])[0]
            expected = 0.0
            for place, token in enumerate(label):
                allowed = sorted({other[place] for other in WHOLE if other[:place] == label[:place]})
                expected += float(logits[place, allowed].log_softmax(-1)[allowed.index(token)])
            assert float(got[index, n]) == pytest.approx(expected, rel=1e-4, abs=1e-4 * float(logits.abs().max()))


@few_families
@positions
def test_rows_of_different_tasks_score_in_one_batch_as_they_do_alone(base, position):
    prompts = [soft(base).detach(), soft(base, 2, seed=8).detach(), None]
    labels = [LABELS, LabelTree.from_ids(((70, 71), (70, 72), (73,))), LabelTree.from_ids(((5,), (6,)))]
    engine = fast_engine(base, position)
    queries = [(0, 0), (0, 1), (1, 1), (2, 2), (1, 0), (2, 0), (0, 2)]
    together = rank_labels(engine, prompts, labels, queries)
    for (row, task), scores in zip(queries, together, strict=True):
        torch.testing.assert_close(scores, label_scores(engine, prompts[task], labels[task], [row])[0], rtol=1e-4, atol=1e-4)


@few_families
@positions
def test_logits_of_chosen_tokens_are_those_of_all(base, position):
    engine, tokens = fast_engine(base, position), [3, 60, 61, 200]
    prompts = engine.prompts([soft(base).detach()])
    whole = engine.target_logits(prompts, [0, 0, 0], [0, 1, 2], TARGETS)
    close(engine.target_logits(prompts, [0, 0, 0], [0, 1, 2], TARGETS, tokens), whole[:, tokens])


@few_families
@positions
def test_padding_never_changes_a_score(base, position):
    prompt = soft(base).detach()
    together = label_scores(fast_engine(base, position), prompt, LABELS)
    for index, row in enumerate(ROWS):
        alone = label_scores(fast_engine(base, position, [row.input_ids]), prompt, LABELS)
        torch.testing.assert_close(alone[0], together[index], rtol=1e-4, atol=1e-5)


@few_families
@positions
def test_losses_equal_the_plain_path_with_and_without_a_prompt(base, position):
    for prompt in (soft(base).detach(), None):
        got = target_losses(fast_engine(base, position), prompt, TARGETS)
        plain = plain_target_logits(base, prompt, position, ROWS)
        expected = [
            float(torch.nn.functional.cross_entropy(x, torch.tensor(row.target_ids))) for x, row in zip(plain, ROWS, strict=True)
        ]
        torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_a_bare_row_before_the_answer_s_first_token_needs_an_input(bases):
    with pytest.raises(ValueError, match="no tokens"):
        Engine(bases("llama"), "prefix", [(1, 2), ()])


@positions
def test_the_check_of_a_loaded_model_refuses_a_wrong_fast_path(bases, position, monkeypatch):
    import weakref

    from softprompt_core.forward import engine as engine_module

    base = bases("llama")
    prompt = soft(base).detach()
    right = label_scores(fast_engine(base, position), prompt, LABELS)
    monkeypatch.setattr(engine_module, "_known_capabilities", weakref.WeakKeyDictionary())
    monkeypatch.setattr(engine_module, "run", lambda *a, _run=engine_module.run, **k: (_run(*a, **k)[0] + 1.0, _run(*a, **k)[1]))
    with pytest.warns(RuntimeWarning, match="slow path"):
        engine = Engine(base, position, INPUTS)
    assert engine.reason and "differ" in engine.reason
    torch.testing.assert_close(label_scores(engine, prompt, LABELS), right, rtol=1e-4, atol=1e-4)


def test_what_a_family_cannot_do_is_switched_off_for_it_alone(bases):
    assert fast_engine(bases("llama"), "prefix").selects_tokens
    assert not fast_engine(bases("bart"), "prefix").selects_tokens, (
        "BART adds a bias of the whole vocabulary behind its output layer"
    )
