"""On several threads, too, the same step gives the same gradient to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from softprompt_core.base_model.loading import load_base
from softprompt_core.forward.kv_cache import KVCache
from softprompt_core.forward.layout import pack
from softprompt_core.spec import BaseModelSpec
from tests.tiny_models import save_tiny

ROWS, LENGTH = 256, 20  # torch takes several threads from 32,768 numbers on


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def same_each_time(gradient: Callable[[], Tensor]) -> bool:
    first = gradient()
    return all(torch.equal(first, gradient()) for _ in range(20))


def test_the_gradient_of_prompts_that_many_rows_share(tmp_path) -> None:
    base = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / "llama", "llama"))))
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2 * LENGTH, base.hidden_size, generator=generator).requires_grad_()
    weights = torch.randn(ROWS, LENGTH, base.hidden_size, generator=generator)

    def gradient() -> Tensor:
        vectors.grad = None
        embedded, _ = pack(base, vectors, (LENGTH, LENGTH), [[n % 2] for n in range(ROWS)])
        (embedded * weights).sum().backward()
        assert vectors.grad is not None
        return vectors.grad

    assert same_each_time(gradient)


def test_the_gradient_of_keys_that_many_rows_share() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(2, 4, LENGTH, 16, generator=generator).requires_grad_()
    weights = torch.randn(ROWS, 4, LENGTH, 16, generator=generator)

    def gradient() -> Tensor:
        keys.grad = None
        taken = KVCache([(keys, keys)], torch.ones(2, LENGTH, dtype=torch.long)).select([n % 2 for n in range(ROWS)])
        (taken.layers[0][0] * weights).sum().backward()
        assert keys.grad is not None
        return keys.grad

    assert same_each_time(gradient)
