"""The base: named by its content, loaded once, frozen; what cannot be used is refused in plain words."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from softprompt_core.base_model import identify, resolved_dtype
from softprompt_core.base_model.loading import BaseModel, load_base, loads
from softprompt_core.errors import InvalidInput, Unavailable
from softprompt_core.spec import BaseModelSpec
from tests.tiny_models import save_tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "tiny", "llama")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "tiny"))


@pytest.fixture
def hub(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with org/tiny in it: content lies under its hash in blobs, a snapshot holds links to it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    model = tmp_path / "hub" / "models--org--tiny"
    snapshot = model / "snapshots" / COMMIT
    for part in (snapshot, model / "blobs", model / "refs"):
        part.mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    for file in original.iterdir():
        content = file.read_bytes()
        # As the hub does it: large files by sha256, the others by git's hash.
        large = file.suffix == ".safetensors"
        name = hashlib.sha256(content) if large else hashlib.sha1(b"blob %d\0" % len(content) + content)
        (model / "blobs" / name.hexdigest()).write_bytes(content)
        (snapshot / file.name).symlink_to(Path("../../blobs") / name.hexdigest())
    return model


def at(folder: Path, **settings: str) -> BaseModelSpec:
    return BaseModelSpec(id=str(folder), **settings)


def test_a_hub_model_is_named_by_its_commit(hub: Path) -> None:
    by_name, by_commit = (BaseModelSpec(id="org/tiny", revision=revision) for revision in (None, COMMIT))
    for spec in (by_name, by_commit):
        identity = identify(spec)
        assert (identity.id, identity.revision, identity.hidden_size) == ("org/tiny", COMMIT, 32)
    assert load_base(by_commit).identity == identify(by_commit)


def test_equal_content_has_equal_fingerprints_at_the_hub_and_in_a_folder(hub: Path, original: Path) -> None:
    plain, cached = identify(at(original)), identify(BaseModelSpec(id="org/tiny"))
    assert plain.fingerprint == cached.fingerprint
    assert plain.id == "tiny" and plain.revision is None  # no path of this machine goes into a prompt's file


def test_a_model_that_is_nowhere_is_unavailable(hub: Path) -> None:
    with pytest.raises(Unavailable, match=r"base_model.id: org/other: .*not in the local cache"):
        load_base(BaseModelSpec(id="org/other"))
    with pytest.raises(Unavailable, match="org/tiny @ ffff"):
        load_base(BaseModelSpec(id="org/tiny", revision="f" * 40))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_one_changed_byte_is_another_base(folder: Path, name: str) -> None:
    before = identify(at(folder)).fingerprint
    content = bytearray((folder / name).read_bytes())
    place = len(content) - 1 if name == "model.safetensors" else content.index(b"{")
    content[place : place + 1] = bytes([content[place] ^ 1]) if name == "model.safetensors" else b"{ "
    (folder / name).write_bytes(content)
    assert identify(at(folder)).fingerprint != before


def test_files_that_decide_nothing_are_not_part_of_the_identity(folder: Path) -> None:
    before = identify(at(folder))
    (folder / "README.md").write_text("about the model")
    assert identify(at(folder)) == before
    assert identify(at(folder.rename(folder.with_name("moved")))).fingerprint == before.fingerprint


def test_the_base_is_frozen_and_in_eval_mode(original: Path) -> None:
    base = load_base(at(original))
    assert not any(p.requires_grad for p in base.model.parameters())
    assert not any(module.training for module in base.model.modules())
    assert (base.kind, base.context, base.hidden_size, base.default_position()) == ("causal", 128, 32, "suffix")


def test_a_base_is_loaded_once_while_it_is_used(original: Path) -> None:
    first = load_base(at(original))
    assert load_base(at(original, device=first.device.type, dtype="auto")) is first
    assert load_base(at(original, dtype=str(first.dtype).removeprefix("torch."))) is first
    assert load_base(at(original, dtype="bfloat16", device="cpu")) is not first
    assert load_base(at(original)) is first, "another was loaded since, but this one is still in use"


def test_the_base_used_last_is_kept_and_no_other(original: Path) -> None:
    last = weakref.ref(load_base(at(original)).model)
    gc.collect()
    assert last() is load_base(at(original)).model, "a task that follows finds it"
    before = loads()
    load_base(at(original, dtype="bfloat16", device="cpu"))
    gc.collect()
    assert last() is None and loads() == before + 1


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_the_resolved_dtype_is_that_of_the_loaded_base(original: Path, dtype: str) -> None:
    spec = at(original, dtype=dtype)
    assert f"torch.{resolved_dtype(spec)}" == str(load_base(spec).dtype)


def test_the_dtype_of_a_build_without_gpu_is_known_without_torch() -> None:
    code = "import importlib.metadata, sys; importlib.metadata.version = lambda name: '2.13.0+cpu'; "
    code += "from softprompt_core.base_model import resolved_dtype; from softprompt_core.spec import BaseModelSpec; "
    code += "print(resolved_dtype(BaseModelSpec()), 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "float32 False\n"


def test_a_changed_folder_is_loaded_again(folder: Path) -> None:
    def first_weight(base: BaseModel) -> float:
        return float(base.embed(torch.tensor([5]))[0, 0])

    before = load_base(at(folder))
    save_tiny(folder, "llama", seed=1)
    after = load_base(at(folder))
    assert first_weight(after) != first_weight(before)
    assert after.identity.fingerprint == identify(at(folder)).fingerprint != before.identity.fingerprint


def test_an_encoder_decoder_is_recognised(tmp_path: Path) -> None:
    base = load_base(at(save_tiny(tmp_path / "t5", "t5")))
    assert (base.kind, base.context, base.default_position()) == ("encoder_decoder", None, "prefix")


def test_t5_in_float16_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "t5", "t5")
    with pytest.raises(InvalidInput, match=r"base_model.dtype: T5 gives NaN in float16"):
        load_base(at(folder, dtype="float16"))


def test_a_device_that_is_not_there_is_unavailable(original: Path) -> None:
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(Unavailable, match=f"no {absent} device"):
        load_base(at(original, device=absent))


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _pickled_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    _without_weights(folder)


def _half_the_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _one_tensor_less(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.q_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def _no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    "damage, words",
    [
        (_without_weights, r"holds no \.safetensors weights\n"),
        (_pickled_weights, "pickled weights are never read"),
        (_half_the_weights, "cannot be loaded"),
        (_one_tensor_less, r"lack 1 of the model's tensors, `model.layers.1.self_attn.q_proj.weight`"),
        (_config(model_type="nonesuch"), "model type `nonesuch`"),
        (_config(model_type="vit"), "Unrecognized configuration class"),
        (_config(hidden_size="many"), "config cannot be used"),
        (_config(hidden_size=64), "cannot be loaded"),
        (_config(model_type="nonesuch", auto_map={"AutoConfig": "code.Config"}), "remote code is never run"),
        (_no_json, "not a valid JSON file"),
        (_without_tokenizer, "holds no tokenizer"),
    ],
)
def test_an_unusable_folder_is_refused_with_its_name_and_what_to_do(
    folder: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(folder)
    with pytest.raises(InvalidInput, match=words) as refused:
        load_base(at(folder))
    assert refused.value.where == f"base_model.id: {folder}" and refused.value.do


def test_a_folder_that_is_not_there_is_invalid_not_looked_up_at_the_hub(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such folder"):
        load_base(at(tmp_path / "nowhere"))
