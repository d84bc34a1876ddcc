"""Training: only the prompt changes, a seed decides everything, a killed run loses nothing, nothing non-finite comes out."""

from __future__ import annotations

import pytest
import torch

from softprompt_core.base_model import identify
from softprompt_core.base_model.label_tree import LabelTree
from softprompt_core.base_model.loading import load_base
from softprompt_core.base_model.tokens import TokenizedRow
from softprompt_core.errors import Diverged
from softprompt_core.spec import BaseModelSpec, TrainingConfig
from softprompt_core.training import TrainingJob, TrainingRows, checkpoint, choose_settings, train_prompt
from softprompt_core.training.optimizers import Adafactor
from tests.tiny_models import save_tiny

LABELS = LabelTree.from_ids(((60,), (61, 62), (61, 63)))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(BaseModelSpec(id=str(save_tiny(tmp_path_factory.mktemp("m") / "llama", "llama"))))


@pytest.fixture(scope="module")
def rows():
    def row(i: int) -> TokenizedRow:
        # The class shows in the last token, so there is something to learn.
        return TokenizedRow((1, *((7 * i + j) % 50 + 100 for j in range(3 + i % 5)), 90 + i % 3), LABELS.ids[i % 3])

    return TrainingRows([row(i) for i in range(40)], [row(i) for i in range(40, 60)], LABELS)


def settings(base, **changes):
    chosen = choose_settings(TrainingConfig(max_steps=24, eval_every=6, batch_size=8, patience=20, warmup_steps=2), base, 40)
    return chosen.model_copy(update=changes)


def start(base):
    return torch.randn(4, base.hidden_size, generator=torch.Generator().manual_seed(5)) * base.embedding_rms


def train(base, rows, position="suffix", seed=0, **options):
    job = TrainingJob(rows, options.pop("start", start(base)), options.pop("settings", settings(base)), seed=seed, **options)
    return train_prompt(base, job, position)


@pytest.mark.parametrize("position", ["prefix", "suffix"])
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_training_lowers_the_validation_loss(base, rows, position, optimizer):
    rate = 0.3 * base.embedding_rms
    result = train(base, rows, position, settings=settings(base, optimizer=optimizer, learning_rate=rate, max_steps=60))
    losses = [entry["validation_loss"] for entry in result.history]
    assert min(losses[1:]) < 0.8 * losses[0]


def test_only_the_prompt_changes_and_the_base_keeps_its_fingerprint(base, rows, tmp_path):
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    result = train(base, rows)
    assert not torch.equal(result.weights, start(base))
    assert all(torch.equal(before[name], value) for name, value in base.model.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in base.model.parameters())
    base.model.save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    again = load_base(BaseModelSpec(id=str(tmp_path)))
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in before.items())
    assert identify(BaseModelSpec(id=str(tmp_path))).hidden_size == base.hidden_size


def test_the_same_seed_gives_the_same_prompt_and_another_seed_another(base, rows):
    first, again, other = train(base, rows), train(base, rows), train(base, rows, seed=1)
    assert torch.equal(first.weights, again.weights)
    assert first.history == again.history or str(first.history) == str(again.history)  # NaN loss of the first entry
    assert not torch.equal(first.weights, other.weights)


@pytest.mark.parametrize("position", ["prefix", "suffix"])
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_resumed_equals_uninterrupted_bit_for_bit(base, rows, tmp_path, monkeypatch, position, optimizer):
    monkeypatch.setenv("SOFTPROMPT_CHECKPOINT_S", "0")
    chosen = settings(base, optimizer=optimizer)
    whole = train(base, rows, position, settings=chosen)

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 15:  # between two checks, before the checkpoint of this step is written: the step is run again
            raise Killed

    file = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Killed):
        train(base, rows, position, settings=chosen, save_to=file, key="k", on_progress=kill)
    loaded = checkpoint.load(file, "k/0")
    assert loaded is not None and loaded[0].step == 14
    reported: list[object] = []
    resumed = train(base, rows, position, settings=chosen, save_to=file, key="k", on_check=reported.append)
    assert torch.equal(resumed.weights, whole.weights)
    assert str(resumed.history) == str(whole.history) == str(tuple(reported))


def test_a_checkpoint_of_another_training_is_not_taken_up(base, rows, tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    train(base, rows, save_to=file, key="one")
    assert checkpoint.load(file, "one/0") is not None
    assert checkpoint.load(file, "other/0") is None
    file.write_bytes(b"damaged")
    assert checkpoint.load(file, "one/0") is None


def test_a_finished_training_is_not_run_again(base, rows, tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    first = train(base, rows, save_to=file, key="k")
    steps = []
    again = train(base, rows, save_to=file, key="k", on_progress=steps.append)
    assert not steps and torch.equal(first.weights, again.weights)


def test_the_best_validation_checkpoint_is_kept_and_training_stops_without_gain(base, rows):
    # A rate that throws the prompt far away: later checks are worse than an early one.
    result = train(base, rows, settings=settings(base, learning_rate=5.0, max_steps=200, patience=3))
    assert result.steps < 200 and "no improvement" in result.stopped
    best = max(result.history, key=lambda e: (e["validation_metric"], -e["validation_loss"]))
    assert result.best_step == best["step"] and result.best_score[0] == best["validation_metric"]


def test_training_that_becomes_nan_keeps_the_last_finite_prompt(base, rows):
    result = train(base, rows, settings=settings(base, learning_rate=float("inf")))
    assert result.stopped == "diverged" and torch.isfinite(result.weights).all()


def test_no_finite_prompt_at_all_is_diverged(base, rows):
    with pytest.raises(Diverged):
        train(base, rows, start=torch.full((4, base.hidden_size), float("nan")))


def test_adafactor_takes_the_paper_s_step():
    p = torch.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
    optimizer = Adafactor([p], lr=0.3, weight_decay=1e-5)
    expected, v = p.detach().clone(), torch.zeros(2, 2)
    for t, gradient in enumerate((torch.tensor([[0.1, -0.2], [0.3, 0.4]]), torch.tensor([[1.0, 0.0], [-0.5, 0.2]])), start=1):
        p.grad = gradient.clone()
        optimizer.step()
        beta = 1 - t**-0.8
        v = beta * v + (1 - beta) * (gradient**2 + 1e-30)
        update = gradient / v.sqrt()
        update = update / max(1.0, float((update**2).mean() ** 0.5))
        expected = (1 - 1e-5) * expected - 0.3 * update
    torch.testing.assert_close(p.detach(), expected, rtol=1e-6, atol=1e-7)


def test_settings_fill_every_auto(base):
    chosen = choose_settings(TrainingConfig(), base, rows=1000)
    assert chosen.learning_rate > 0 and 200 <= chosen.max_steps <= 2000
    assert chosen.rate(0) < chosen.rate(chosen.warmup_steps) and chosen.rate(chosen.max_steps - 1) < 0.1 * chosen.learning_rate
    paper = choose_settings(TrainingConfig(optimizer="adafactor"), base, rows=1000)
    assert paper.learning_rate == 0.3 and paper.rate(paper.max_steps - 1) == 0.3
