import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from softprompt_core.errors import InvalidInput, Unavailable
from softprompt_core.store import tags
from softprompt_core.store.content import content_fingerprint
from softprompt_core.store.registration import incomplete_versions
from softprompt_core.store.runs import experiment_id, start_run
from softprompt_core.store.versions import (
    by_alias,
    download,
    download_whole,
    get,
    last_decided,
    list_versions,
    version_size_bytes,
)
from tests.store.transports import on_sqlite_and_server


@on_sqlite_and_server
def test_a_registered_version_is_complete_and_is_the_one_that_was_made(store, make_version, name, run_id, tmp_path):
    version = make_version(tags={tags.BASE_ID: "bundled", tags.GIT_COMMIT: None}, description="Better. " + "x" * 6000)
    assert (version.name, version.version, version.run_id, version.aliases) == (name, 1, run_id, ())
    content = content_fingerprint(download_whole(store, name, 1, tmp_path / "whole"))
    assert version.tags == {tags.BASE_ID: "bundled", tags.STATUS: tags.REGISTERED, tags.CONTENT_FINGERPRINT: content}
    assert version.description.startswith("Better.")
    assert len(version.description) == 5000  # what PostgreSQL's column holds
    assert abs(datetime.now(UTC) - version.created) < timedelta(minutes=5)
    assert get(store, name, 1) == version
    assert make_version().version == 2


@on_sqlite_and_server
def test_a_version_gives_back_the_bytes_that_were_registered(store, make_version, name, folder, tmp_path):
    make_version()
    (folder / "spec.yaml").write_text("name: second\n")
    make_version()
    first, second = (download(store, name, v, tmp_path / str(v)) for v in (1, 2))
    assert sorted(p.name for p in first.iterdir()) == ["content.json", "soft_prompt.safetensors", "spec.yaml"]
    assert (first / "soft_prompt.safetensors").read_bytes() == (folder / "soft_prompt.safetensors").read_bytes()
    assert (first / "spec.yaml").read_text(encoding="utf-8") == "name: a task with ü\n"
    assert (second / "spec.yaml").read_text() == "name: second\n"


@on_sqlite_and_server
def test_a_version_is_a_pyfunc_model_that_mlflow_loads(store, make_version, name, process_wide):
    import mlflow

    make_version()
    model = mlflow.pyfunc.load_model(f"models:/{name}/1")
    assert model.predict(pd.DataFrame({"text": ["a", "b"]})) == ["name: a task with ü\n"] * 2
    assert model.metadata.run_id == store.client.get_model_version(name, "1").run_id
    assert model.metadata.signature.inputs.input_names() == ["text"]


def test_a_version_holds_the_named_requirements_and_no_stray_lock_file(store, make_version, name, tmp_path, monkeypatch):
    from mlflow.artifacts import download_artifacts, list_artifacts

    (tmp_path / "uv.lock").write_text("version = 1\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n')
    monkeypatch.chdir(tmp_path)
    make_version(requirements=["safetensors==0.8.0"])
    uri, tracking_uri = store.client.get_model_version_download_uri(name, "1"), store.client.tracking_uri
    files = {Path(file.path).name for file in list_artifacts(uri, tracking_uri=tracking_uri)}
    assert "served_model.py" in files
    assert not files & {"uv.lock", "pyproject.toml"}
    requirements = Path(download_artifacts(f"{uri}/requirements.txt", tracking_uri=tracking_uri)).read_text().split()
    assert [r.partition("==")[0] for r in requirements] == ["mlflow", "safetensors"]


@on_sqlite_and_server
def test_the_size_of_a_version_is_that_of_its_files(store, make_version, name, folder):
    make_version()
    own = sum(p.stat().st_size for p in folder.iterdir())
    assert own < version_size_bytes(store, name, 1) < own + 10_000
    (folder / "soft_prompt.safetensors").write_bytes(bytes(50_000))
    make_version()
    grown = version_size_bytes(store, name, 2) - version_size_bytes(store, name, 1)
    assert abs(grown - (50_000 - 256 * 40)) < 10


@on_sqlite_and_server
def test_a_version_whose_registration_broke_off_is_no_candidate(store, make_version, name):
    make_version()
    store.client.create_model_version(name, "s3://nowhere/model", tags={tags.OUTCOME: "promoted"})
    assert [v.version for v in list_versions(store, name)] == [1]
    assert last_decided(store, name) is None
    with pytest.raises(InvalidInput, match="broke off"):
        get(store, name, 2)
    store.client.set_registered_model_alias(name, tags.CHAMPION, "2")
    with pytest.raises(InvalidInput, match="version 2"):
        by_alias(store, name, tags.CHAMPION)


def test_a_model_that_cannot_be_saved_leaves_no_version_and_a_failed_model(store, name, make_version, tmp_path):
    code = tmp_path / "broken.py"
    code.write_text("raise RuntimeError('broken')\n")
    with pytest.raises(Exception, match="broken"):
        make_version(code=code, signature=None, input_example=None)
    assert list_versions(store, name) == []
    models = store.client.search_logged_models([experiment_id(store, name)])
    assert [str(model.status) for model in models] == ["FAILED"]


@on_sqlite_and_server
def test_lists_know_the_aliases(store, make_version, name):
    for _ in range(3):
        make_version()
    store.client.set_registered_model_alias(name, tags.CHAMPION, "2")
    store.client.set_registered_model_alias(name, "mine", "2")
    store.client.set_registered_model_alias(name, tags.CHALLENGER, "3")
    aliases = [(3, ("challenger",)), (2, ("champion", "mine")), (1, ())]
    assert [(v.version, v.aliases) for v in list_versions(store, name)] == aliases
    assert [(v.version, v.aliases) for v in list_versions(store) if v.name == name] == aliases
    assert by_alias(store, name, tags.CHAMPION) == get(store, name, 2)
    assert by_alias(store, name, tags.PREVIOUS) is None


@on_sqlite_and_server
@pytest.mark.parametrize("unknown", ["never-registered", "it's", "a/b"])
def test_a_task_without_a_model_is_empty_and_not_an_error(store, unknown):
    assert list_versions(store, unknown) == []
    assert by_alias(store, unknown, tags.CHAMPION) is None
    assert last_decided(store, unknown) is None
    with pytest.raises(InvalidInput, match="no such version"):
        get(store, unknown, 1)


def test_the_last_decided_version_is_the_highest_with_an_outcome(store, make_version, name):
    for outcome in ("promoted", "rejected", None):
        make_version(tags={tags.OUTCOME: outcome})
    assert last_decided(store, name).version == 2


def test_registering_from_threads_mixes_nothing_up(store, make_version):
    registered = {}

    def make(task):
        run_id = start_run(store, experiment_id(store, task), task, {})
        registered[task] = make_version(name=task, run_id=run_id), run_id

    threads = [threading.Thread(target=make, args=(f"task-{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {task: (v.name, v.version) for task, (v, _) in registered.items()} == {f"task-{i}": (f"task-{i}", 1) for i in range(3)}
    assert all(version.run_id == run_id for version, run_id in registered.values())


@on_sqlite_and_server
def test_files_that_did_not_arrive_as_they_were_sent_are_never_a_version(make_version, store, name, monkeypatch):
    from mlflow import MlflowClient

    put = MlflowClient.log_model_artifacts

    def cut(self, model_id, folder):
        (Path(folder) / "artifacts" / "soft_prompt" / "spec.yaml").write_text("cut")
        put(self, model_id, folder)
        (Path(folder) / "artifacts" / "soft_prompt" / "spec.yaml").write_text("whole")

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", cut)
    with pytest.raises(Unavailable, match=r"1 of \d+ files did not arrive as they were sent: artifacts/soft_prompt/spec.yaml"):
        make_version()
    assert store.client.search_model_versions(f"name = '{name}'") == []
    monkeypatch.undo()
    assert make_version().version == 1


@on_sqlite_and_server
def test_a_registration_that_broke_off_is_deleted_once_its_run_has_ended(make_version, store, name, run_id):
    store.client.create_registered_model(name)
    other = start_run(store, experiment_id(store, name), "another", {})
    store.client.create_model_version(name, "s3://nowhere/model", run_id=other, tags={tags.TASK: name})
    store.client.create_model_version(name, "s3://nowhere/model", run_id=other)  # somebody else's: it has none of our tags
    assert incomplete_versions(store, name) == []  # somebody is at work on it
    store.client.set_terminated(other, "FAILED")
    assert [version.version for version in incomplete_versions(store, name)] == [1]
    assert make_version(tags={tags.TASK: name}).version == 3
    assert sorted(int(version.version) for version in store.client.search_model_versions(f"name = '{name}'")) == [2, 3]
