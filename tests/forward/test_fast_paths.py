"""Every fast path equals the plain statement: logits, losses, label scores and the prompt's gradient."""

from __future__ import annotations

import pytest
import torch

from softprompt_core.base_model import load_base
from softprompt_core.encoding import Row
from softprompt_core.forward import Engine, label_scores, plain_target_logits, target_losses
from softprompt_core.label_words import LabelTokens
from softprompt_core.spec import BaseModelSpec
from tests.tiny_models import save_tiny

ROWS = [
    Row((1, 40, 41, 42, 43, 44, 45), (60,)),
    Row((1, 90), (61, 62, 63)),
    Row((1, 100, 101, 102), (64, 65)),
]
WHOLE = ((60,), (61, 62), (61, 63, 64), (61, 63, 65, 67), (66, 2))
LABELS = LabelTokens.from_ids(WHOLE)


@pytest.fixture(scope="module", params=["llama", "gpt2", "qwen3", "t5"])
def base(request, tmp_path_factory):
    folder = save_tiny(tmp_path_factory.mktemp("models") / request.param, request.param)
    return load_base(BaseModelSpec(id=str(folder)))


@pytest.fixture(params=["prefix", "suffix"])
def position(request):
    return request.param


def soft(base, length=5):
    torch.manual_seed(7)
    return (torch.randn(length, base.hidden_size) * base.embedding_rms).requires_grad_()


def engine(base, position, **options):
    made = Engine(base, position, [row.input_ids for row in ROWS], **options)
    assert made.reason is None, made.reason
    return made


def test_logits_and_gradient_equal_the_plain_path(base, position):
    prompt = soft(base)
    logits, ids = engine(base, position).target_logits(prompt, [0, 1, 2], [row.target_ids for row in ROWS])
    fast = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, ids), prompt)[0]
    wanted = torch.cat(plain_target_logits(base, prompt, position, ROWS))
    slow = torch.autograd.grad(torch.nn.functional.cross_entropy(wanted, ids), prompt)[0]
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
    assert float(slow.norm()) > 1e-4, "the gradient must not vanish, or the comparison would be empty"
    assert float((fast - slow).norm() / slow.norm()) < 1e-4


def test_padding_never_changes_a_score(base, position):
    prompt = soft(base).detach()
    together = label_scores(engine(base, position), prompt, LABELS)
    for index, row in enumerate(ROWS):
        alone = label_scores(Engine(base, position, [row.input_ids]), prompt, LABELS)
        torch.testing.assert_close(alone[0], together[index], rtol=1e-5, atol=1e-5)


def test_label_scores_are_those_of_whole_sequences_among_the_labels(base, position):
    prompt = soft(base).detach()
    got = label_scores(engine(base, position), prompt, LABELS)
    torch.testing.assert_close(got.exp().sum(dim=1), torch.ones(len(ROWS)), rtol=1e-5, atol=1e-5)
    for index, row in enumerate(ROWS):
        for n, label in enumerate(WHOLE):
            logits = plain_target_logits(base, prompt, position, [Row(row.input_ids, label)])[0]
            wanted = 0.0
            for place, token in enumerate(label):
                allowed = sorted({other[place] for other in WHOLE if other[:place] == label[:place]})
                wanted += float(logits[place, allowed].log_softmax(-1)[allowed.index(token)])
            assert float(got[index, n]) == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_a_row_beyond_the_byte_budget_scores_the_same(base, position):
    prompt = soft(base).detach()
    kept = label_scores(engine(base, position), prompt, LABELS)
    recomputed = label_scores(engine(base, position, cache_bytes=0), prompt, LABELS)
    torch.testing.assert_close(kept, recomputed, rtol=1e-5, atol=1e-5)


def test_losses_equal_the_plain_path_with_and_without_a_prompt(base, position):
    for prompt in (soft(base).detach(), None):
        got = target_losses(engine(base, position), prompt, [row.target_ids for row in ROWS])
        plain = plain_target_logits(base, prompt, position, ROWS)
        wanted = [
            float(torch.nn.functional.cross_entropy(x, torch.tensor(row.target_ids))) for x, row in zip(plain, ROWS, strict=True)
        ]
        torch.testing.assert_close(got, torch.tensor(wanted), rtol=1e-4, atol=1e-4)


def test_the_check_of_a_loaded_model_refuses_a_wrong_fast_path(base, position, monkeypatch):
    from softprompt_core.forward import engine as module

    monkeypatch.setattr(module, "_checked", {})
    right = module._batched_logits
    monkeypatch.setattr(module, "_batched_logits", lambda *a: (right(*a)[0] + 1.0, right(*a)[1]))
    with pytest.warns(RuntimeWarning, match="slow path"):
        made = Engine(base, position, [ROWS[0].input_ids])
    assert made.reason and "differ" in made.reason
