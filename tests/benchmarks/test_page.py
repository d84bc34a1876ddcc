"""Every part of the benchmarks runs, at a tiny size, and ends on the page; a promise that is not kept is shown as such."""

from __future__ import annotations

import pytest

from benchmarks import shapes
from benchmarks.__main__ import run
from benchmarks.orchestration import parts
from benchmarks.page import Requirement, Section, render
from benchmarks.peak import useful
from benchmarks.plan import TINY


def test_every_part_in_one_process_ends_on_the_page(tmp_path):
    pytest.importorskip("peft")
    page = tmp_path / "page.md"
    text = run(TINY, ["training", "equality", "scoring", "prompts", "growth"], "a command", page)
    assert page.read_text(encoding="utf-8") == text
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert titles == ["Training speed", "Equal losses", "Scoring", "Many prompts", "Growth with rows and prompt length"]
    required = [line for line in text.splitlines() if line.startswith("| training step against PEFT")]
    assert len(required) == 3 and "tiny-llama, 25 tokens, P=20, prefix" in text
    (loss,) = [line for line in text.splitlines() if line.startswith("| final loss")]
    assert "| yes |" in loss


def test_memory_is_read_in_a_fresh_process():
    from benchmarks.memory import Training, peak_bytes

    training = Training(side="ours", shape="tiny-llama", rows=4, batch=4, tokens=8, prompt=2)
    assert 50 * 2**20 < peak_bytes(training) < 4 * 2**30


def test_a_promise_not_kept_is_shown():
    kept = Requirement("a", 4.0, 3.0, 5.0, "here")
    broken = Requirement("b", 12.0, 10, 5, "here", "≤", unit=" s")
    page = render([Section("T", "words", ["x", "y"], [["1", "2"]], [kept, broken])], TINY, "c", 1.0)
    assert "| a | 4.0× | ≥ 3× | ≥ 5× | yes | here |" in page
    assert "| b | 12.0 s | ≤ 10 s | ≤ 5 s | **no** | here |" in page


def test_the_parts_of_a_run_add_up():
    split = parts(20.0, 15.0, {"train": 6.0, "evaluate": 3.0, "register": 1.0, "prepare data": 2.0})
    assert split["around training and scoring"] == 11.0
    assert sum(seconds for part, seconds in split.items() if part.startswith("·")) == pytest.approx(11.0)


def test_useful_operations_are_those_that_torch_counts_where_nothing_is_wasted():
    # One row, no padding, prefix: apart from attention (masked halves) and the first layer's inputs, all that is run is useful.
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = shapes.build("tiny-llama")
    (row,) = shapes.examples(model, 1, 25)
    prompt = shapes.start(model, 4).requires_grad_()
    ids = torch.tensor([row.input_ids])
    counter = FlopCounterMode(display=False)
    with counter:
        embedded = torch.cat([prompt[None], model.get_input_embeddings()(ids)], dim=1)
        model(inputs_embeds=embedded, use_cache=False, logits_to_keep=1).logits.sum().backward()
    counted = useful(model, [len(row.input_ids)], 4, "prefix", 1)
    assert counter.get_total_flops() == pytest.approx(counted, rel=0.15)
