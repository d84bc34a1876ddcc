"""A prefix prompt's PEFT files load in PEFT itself and give the same logits."""

from __future__ import annotations

import json

import pytest
import torch

from softprompt_core.base_model.loading import load_base
from softprompt_core.base_model.tokens import TokenizedRow
from softprompt_core.errors import InvalidInput
from softprompt_core.forward import plain_target_logits
from softprompt_core.soft_prompt import SoftPrompt, write_peft
from softprompt_core.spec import BaseModelSpec
from tests.tiny_models import save_tiny


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_peft_loads_the_folder_with_the_same_logits(tmp_path, family):
    peft = pytest.importorskip("peft")
    base = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / family, family))))
    prompt = SoftPrompt(torch.randn(6, base.hidden_size), "prefix", base.identity, "t")
    row = TokenizedRow((5, 40, 41, 42), (60, 61, 62))
    expected = plain_target_logits(base, prompt.weights, "prefix", [row])[0]
    write_peft(prompt, base, tmp_path)
    fresh = type(base.model).from_pretrained(tmp_path / family)
    model = peft.PeftModel.from_pretrained(fresh, tmp_path)
    model.eval()
    with torch.no_grad():
        if base.kind == "causal":
            ids = torch.tensor([[*row.input_ids, *row.target_ids[:-1]]])
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -3:]
        else:
            ids, start = torch.tensor([row.input_ids]), base.model.config.decoder_start_token_id
            decoder = torch.tensor([[start, *row.target_ids[:-1]]])
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=decoder).logits[0]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_the_tensor_file_is_what_peft_itself_writes(tmp_path):
    peft = pytest.importorskip("peft")
    base = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / "llama", "llama"))))
    fresh = type(base.model).from_pretrained(tmp_path / "llama")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=6)
    model = peft.get_peft_model(fresh, config)
    model.save_pretrained(tmp_path / "theirs")
    weights = model.prompt_encoder["default"].embedding.weight.detach().clone()
    (tmp_path / "ours").mkdir()
    write_peft(SoftPrompt(weights, "prefix", base.identity, "t"), base, tmp_path / "ours")
    assert (tmp_path / "ours/adapter_model.safetensors").read_bytes() == (
        tmp_path / "theirs/adapter_model.safetensors"
    ).read_bytes()
    ours, theirs = (json.loads((tmp_path / who / "adapter_config.json").read_text()) for who in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    differing = {key for key in ours if ours[key] != theirs[key]}
    assert differing <= {"base_model_name_or_path", "revision"}, differing


def test_a_suffix_prompt_has_no_peft_files(tmp_path):
    base = load_base(BaseModelSpec(id=str(save_tiny(tmp_path / "llama", "llama"))))
    with pytest.raises(InvalidInput, match="prefix prompts only"):
        write_peft(SoftPrompt(torch.zeros(2, base.hidden_size), "suffix", base.identity, "t"), base, tmp_path)
