"""A base is tried before anything is trained on it: what would be silently wrong is refused with a reason, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from softprompt_core.base_model import identify
from softprompt_core.base_model.loading import BaseModel, load_base
from softprompt_core.base_model.tokens import input_limit
from softprompt_core.errors import InvalidInput
from softprompt_core.forward import Engine, target_losses
from softprompt_core.spec import BaseModelSpec
from tests.tiny_models import save_tiny


def load(folder: Path, family: str) -> BaseModel:
    return load_base(BaseModelSpec(id=str(save_tiny(folder / family, family)), device="cpu"))


def changed(folder: Path, name: str, **changes: object) -> Path:
    """A model folder in which a JSON file has other values; None takes a key out."""
    path = folder / name
    values = {**(json.loads(path.read_text()) if path.exists() else {}), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return folder


@pytest.mark.parametrize("family", ["bert", "prophetnet"])
def test_a_model_that_sees_later_tokens_is_refused(tmp_path: Path, family: str) -> None:
    with pytest.raises(InvalidInput, match=r"base_model\.id: .*later tokens change what the model predicts.*by \d+\.\d%"):
        load(tmp_path, family)


def test_a_model_that_takes_more_from_tokens_than_their_embeddings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"does not answer token embeddings as it answers their tokens \(\d+\.\d% apart\)"):
        load(tmp_path, "gemma3n")


def test_a_model_that_runs_on_the_embeddings_of_tokens_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot be run on tokens or vectors \(RuntimeError: .*embed"):
        load(tmp_path, "gemma4")


def test_a_model_that_gives_nan_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "llama", "llama")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidInput, match="not finite numbers"):
        load_base(BaseModelSpec(id=str(folder), device="cpu"))


def test_embeddings_are_scaled_where_the_model_does_it_outside_of_them(tmp_path: Path) -> None:
    base = load(tmp_path, "pegasus")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        expected = base.model(input_ids=ids, decoder_input_ids=ids).logits
        torch.testing.assert_close(base.model(inputs_embeds=base.embed(ids), decoder_input_ids=ids).logits, expected)
    assert base.embedding_scale == pytest.approx(32**0.5)


def test_a_prompt_is_as_wide_as_the_embeddings(tmp_path: Path) -> None:
    base = load(tmp_path, "opt-narrow")
    assert base.hidden_size == base.embed(torch.tensor([5])).shape[1] == 16


@pytest.mark.parametrize("position", ["prefix", "suffix"])
@pytest.mark.parametrize("family", ["gpt2", "opt", "bart", "led", "roberta"])
def test_rows_as_long_as_the_limit_allows_can_be_run(tmp_path: Path, family: str, position: str) -> None:
    base, answer = load(tmp_path, family), (7, 8, 9)
    limit = input_limit(base, 4, len(answer), None)
    assert limit > 100
    prompt = torch.zeros(4, base.hidden_size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # RoBERTa counts positions in its own way and takes the slow path
        engine = Engine(base, position, [tuple(range(5, 5 + limit)), (5, 6)])
        assert torch.isfinite(target_losses(engine, prompt, [answer, answer])).all()


def test_an_answer_longer_than_the_decoder_is_refused(tmp_path: Path) -> None:
    base = load(tmp_path, "led")
    assert (base.context, base.answer_context) == (120, 64), "texts are filled up to whole windows of 8"
    assert input_limit(base, 20, 64, None) == 100
    with pytest.raises(InvalidInput, match=r"evaluation\.max_new_tokens: an answer of up to 65 tokens .* context of 64"):
        input_limit(base, 20, 65, None)


def test_an_answer_that_fills_the_context_is_told_by_its_own_name(tmp_path: Path) -> None:
    base = load(tmp_path, "llama")
    assert input_limit(base, 20, 64, None) == 44
    with pytest.raises(InvalidInput, match=r"evaluation\.max_new_tokens: .*200 tokens"):
        input_limit(base, 20, 200, None)
    with pytest.raises(InvalidInput, match=r"prompt\.length: 100 prompt vectors"):
        input_limit(base, 100, 64, None)


def _no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def _lfs_pointer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@pytest.mark.parametrize(
    ("family", "damage", "words"),
    [
        ("llama", _no_tokenizer, "holds no tokenizer"),
        ("t5", _no_tokenizer, r"holds no tokenizer, none of: .*tokenizer\.json"),
        ("gpt2", _no_tokenizer, "holds no tokenizer"),
        ("llama", _lfs_pointer, "cannot be loaded"),
        ("t5", lambda f: changed(f, "config.json", decoder_start_token_id=None), "names no decoder_start_token_id"),
        ("llama", lambda f: changed(f, "config.json", quantization_config={"quant_method": "gptq", "bits": 4}), "package|loaded"),
        ("llama", lambda f: changed(f, "config.json", quantization_config={"quant_method": "awq", "bits": 4}), "package|loaded"),
        ("llama", lambda f: changed(f, "config.json", hidden_act="none such"), "cannot be loaded|config cannot be used"),
        ("llama", lambda f: changed(f, "config.json", num_attention_heads=0), "cannot be loaded|config cannot be used"),
    ],
)
def test_what_a_folder_lacks_is_told_without_a_traceback(
    tmp_path: Path, family: str, damage: Callable[[Path], None], words: str
) -> None:
    folder = save_tiny(tmp_path / family, family)
    damage(folder)
    with pytest.raises(InvalidInput, match=words) as refused:
        load_base(BaseModelSpec(id=str(folder), device="cpu"))
    assert refused.value.where == f"base_model.id: {folder}" and refused.value.do


def test_the_identity_of_a_narrow_embedding_needs_no_weights(tmp_path: Path) -> None:
    assert identify(BaseModelSpec(id=str(save_tiny(tmp_path / "opt", "opt-narrow")))).hidden_size == 16
