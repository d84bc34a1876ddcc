"""Nearest tokens, displacement and similarity, against answers that are known beforehand."""

from __future__ import annotations

import pytest
import torch

from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.interpretation import Displacement, displacement, nearest_tokens, similarity
from softprompt_core.interpretation import tokens as tokens_module
from softprompt_core.spec import BaseModelSpec
from tests.tiny_models import save_tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return load_base(BaseModelSpec(id=str(save_tiny(tmp_path_factory.mktemp("base") / "llama", "llama")), device="cpu"))


def test_a_tokens_own_embedding_is_nearest_to_that_token_whatever_its_length(base: BaseModel) -> None:
    ids = base.tokenizer(" film good", add_special_tokens=False)["input_ids"]
    near = nearest_tokens(base, base.embed(torch.tensor(ids)) * torch.tensor([[3.0], [1.0], [0.01]]), count=2)
    assert [row[0].id for row in near] == ids and "".join(row[0].text for row in near) == " film good"
    assert all(row[0].cosine == pytest.approx(1, abs=1e-5) and row[1].cosine < 1 for row in near)


def test_pieces_of_the_vocabulary_give_the_same_as_all_of_it(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.randn(3, base.hidden_size, generator=torch.Generator().manual_seed(0))
    whole = nearest_tokens(base, vectors, count=4)
    monkeypatch.setattr(tokens_module, "_AT_ONCE", 7)
    assert [[t.id for t in row] for row in nearest_tokens(base, vectors, count=4)] == [[t.id for t in row] for row in whole]
    matrix = base.embed(torch.arange(len(base.tokenizer))).float()
    best = torch.nn.functional.cosine_similarity(vectors[:, None], matrix[None], dim=2).argmax(dim=1)
    assert [row[0].id for row in whole] == best.tolist()


def test_vectors_of_another_width_are_refused(base: BaseModel) -> None:
    with pytest.raises(ValueError, match="no vectors of 32"):
        nearest_tokens(base, torch.zeros(2, 5))


def test_displacement_is_nothing_for_an_untrained_prompt_and_known_for_a_known_move() -> None:
    start = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert displacement(start, start) == Displacement(cosine=(1.0, 1.0), distance=(0.0, 0.0))
    moved = displacement(start, torch.tensor([[0.0, 1.0], [0.0, 4.0]]))
    assert moved.cosine == pytest.approx((0.0, 1.0)) and moved.distance == pytest.approx((2**0.5, 1.0))
    assert Displacement.model_validate_json(moved.model_dump_json()) == moved
    with pytest.raises(ValueError, match="does not belong"):
        displacement(start, start[:1])


def test_order_counts_by_place_and_not_by_best_match() -> None:
    a = torch.eye(3)
    compared = similarity(a, a[[1, 0, 2]])
    assert compared is not None and compared.by_place == (0.0, 0.0, 1.0) and compared.best_match == (1.0, 1.0, 1.0)
    shorter = similarity(a, a[:2])
    assert shorter is not None and shorter.by_place is None and shorter.best_match == (1.0, 1.0, 0.0)
    assert similarity(a, torch.eye(4)) is None
