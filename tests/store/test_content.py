"""A version is what was registered, or it is refused: by what lies in it where no registry is in reach, and by the registry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from softprompt_core.errors import InvalidInput
from softprompt_core.store import tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.content import CONTENT_FILE, require_sealed
from softprompt_core.store.versions import Version

PROMPT = "soft_prompt.safetensors"


@pytest.fixture
def stored(store: Store, name: str, make_version: Callable[..., Version], folder: Path) -> Path:
    """The folder of version 2 as MLflow keeps it; version 1 is another one."""
    make_version()
    (folder / "spec.yaml").write_text("name: another\n", encoding="utf-8")
    make_version()
    found = versions.local_folder(store, name, 2)
    assert found is not None
    return found


def flip(path: Path, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


def refused(store: Store, name: str, stored: Path, tmp_path: Path) -> str:
    """What every door says; fails if one lets the version through."""
    with pytest.raises(InvalidInput) as by_registry:
        versions.download(store, name, 2, tmp_path / "copy")
    assert by_registry.value.where == f"{name} version 2" and by_registry.value.do
    assert versions.content_problem(store, versions.get(store, name, 2)) == by_registry.value.what
    return by_registry.value.what


def test_an_untouched_version_passes_every_door(store: Store, name: str, stored: Path, tmp_path: Path) -> None:
    require_sealed(stored / "artifacts" / "soft_prompt")
    copied = versions.download(store, name, 2, tmp_path / "copy")
    require_sealed(copied)
    require_sealed(shutil.copytree(copied, tmp_path / "alone"))
    assert versions.content_problem(store, versions.get(store, name, 2)) is None


def test_what_mlflow_leaves_in_the_folder_of_a_model_that_it_loads_is_no_damage(
    store: Store, name: str, stored: Path, process_wide: None
) -> None:
    import mlflow

    before = set(stored.rglob("*"))
    mlflow.pyfunc.load_model(f"models:/{name}/2")
    assert set(stored.rglob("*")) != before, "else this test and what it is about can go"
    assert versions.content_problem(store, versions.get(store, name, 2)) is None


@pytest.mark.parametrize("byte", [0, 8, 5000, -1])
def test_one_flipped_byte_of_the_prompt_is_refused_and_named(
    store: Store, name: str, stored: Path, tmp_path: Path, byte: int
) -> None:
    flip(stored / "artifacts" / "soft_prompt" / PROMPT, byte)
    with pytest.raises(InvalidInput, match=f"`{PROMPT}` is not the one"):
        require_sealed(stored / "artifacts" / "soft_prompt")
    assert f"not those that were registered: `{PROMPT}` is not the one" in refused(store, name, stored, tmp_path)


@pytest.mark.parametrize("file", ["MLmodel", "served_model.py", "requirements.txt", "input_example.json"])
def test_every_other_file_of_a_version_is_checked_by_the_registry(
    store: Store, name: str, stored: Path, tmp_path: Path, file: str
) -> None:
    (stored / file).write_text((stored / file).read_text(encoding="utf-8") + "\n# more\nmore: 1\n", encoding="utf-8")
    assert refused(store, name, stored, tmp_path).startswith("its files are not those that were registered")


def test_a_file_that_is_gone_or_came_in_addition_is_named(store: Store, name: str, stored: Path, tmp_path: Path) -> None:
    prompt = stored / "artifacts" / "soft_prompt"
    (prompt / "spec.yaml").rename(prompt / "other.yaml")
    assert "`spec.yaml` is gone, `other.yaml` was added" in refused(store, name, stored, tmp_path)


def test_the_prompt_of_another_version_in_its_place_is_noticed_without_a_registry(
    store: Store, name: str, stored: Path, tmp_path: Path
) -> None:
    other, prompt = versions.local_folder(store, name, 1), stored / "artifacts" / "soft_prompt"
    assert other is not None
    shutil.rmtree(prompt)
    shutil.copytree(other / "artifacts" / "soft_prompt", prompt)
    with pytest.raises(InvalidInput, match="not the one of this version"):
        require_sealed(prompt)
    refused(store, name, stored, tmp_path)
    (prompt / CONTENT_FILE).unlink()
    with pytest.raises(InvalidInput, match="is gone, which says what its files are"):
        require_sealed(prompt)


@pytest.mark.parametrize("what", [f"artifacts/soft_prompt/{PROMPT}", "artifacts/soft_prompt", "MLmodel"])
def test_a_link_is_refused_even_to_equal_content(store: Store, name: str, stored: Path, tmp_path: Path, what: str) -> None:
    shutil.move(stored / what, tmp_path / "elsewhere")
    (stored / what).symlink_to(tmp_path / "elsewhere")
    assert "is a link to another place" in refused(store, name, stored, tmp_path)
    if what != "MLmodel":
        with pytest.raises(InvalidInput, match="is a link to another place"):
            require_sealed(stored / "artifacts" / "soft_prompt")


def test_a_version_whose_files_are_gone_says_so(store: Store, name: str, stored: Path, tmp_path: Path) -> None:
    shutil.rmtree(stored)
    assert refused(store, name, stored, tmp_path) == "its files are gone"


def test_a_manifest_that_cannot_be_read_is_refused(stored: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(stored / "artifacts" / "soft_prompt", tmp_path / "alone")
    for text in ("", "[]", '{"sha256": 1}', json.dumps({"sha256": {"../../MLmodel": "0"}})):
        (alone / CONTENT_FILE).write_text(text, encoding="utf-8")
        with pytest.raises(InvalidInput):
            require_sealed(alone)


def test_versions_of_releases_before_open_without_a_digest_inside(kept_store: Store, tmp_path: Path) -> None:
    for version in versions.list_versions(kept_store):
        folder = versions.download(kept_store, "toy", version.version, tmp_path / str(version.version))
        require_sealed(folder)
        assert not (folder / CONTENT_FILE).exists() and versions.content_problem(kept_store, version) is None
    # What they were registered with is in the registry all the same.
    found = versions.local_folder(kept_store, "toy", 2)
    assert found is not None
    flip(found / "artifacts" / "soft_prompt" / PROMPT, -1)
    champion = versions.by_alias(kept_store, "toy", tags.CHAMPION)
    assert champion is not None
    assert versions.content_problem(kept_store, champion) == "its files are not those that were registered"
