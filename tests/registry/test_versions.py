import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from softprompt_core.errors import InvalidInput, Unavailable
from softprompt_core.registry import (
    by_alias,
    connect,
    content_fingerprint,
    download,
    download_whole,
    experiment_id,
    get,
    half_made,
    last_decided,
    list_versions,
    start_run,
    tags,
    version_size_bytes,
)


def test_a_registered_version_is_complete_and_is_the_one_that_was_made(client, make_version, name, run_id, tmp_path):
    made = make_version(tags={tags.BASE_ID: "bundled", tags.GIT_COMMIT: None}, description="Better. " + "x" * 6000)
    assert (made.name, made.version, made.run_id, made.aliases) == (name, 1, run_id, ())
    content = content_fingerprint(download_whole(client, name, 1, tmp_path / "whole"))
    assert made.tags == {tags.BASE_ID: "bundled", tags.STATUS: tags.REGISTERED, tags.CONTENT_FINGERPRINT: content}
    assert made.description.startswith("Better.")
    assert len(made.description) == 5000  # what PostgreSQL's column holds
    assert abs(datetime.now(UTC) - made.created) < timedelta(minutes=5)
    assert get(client, name, 1) == made
    assert make_version().version == 2


def test_a_version_gives_back_the_bytes_that_were_registered(client, make_version, name, folder, tmp_path):
    make_version()
    (folder / "spec.yaml").write_text("name: second\n")
    make_version()
    first, second = (download(client, name, v, tmp_path / str(v)) for v in (1, 2))
    assert sorted(p.name for p in first.iterdir()) == ["soft_prompt.safetensors", "spec.yaml"]
    assert (first / "soft_prompt.safetensors").read_bytes() == (folder / "soft_prompt.safetensors").read_bytes()
    assert (first / "spec.yaml").read_text(encoding="utf-8") == "name: a task with ü\n"
    assert (second / "spec.yaml").read_text() == "name: second\n"


def test_a_version_is_a_pyfunc_model_that_mlflow_loads(client, make_version, name, process_wide):
    import mlflow

    make_version()
    model = mlflow.pyfunc.load_model(f"models:/{name}/1")
    assert model.predict(pd.DataFrame({"text": ["a", "b"]})) == ["name: a task with ü\n"] * 2
    assert model.metadata.run_id == client.get_model_version(name, "1").run_id
    assert model.metadata.signature.inputs.input_names() == ["text"]


def test_a_version_holds_the_named_requirements_and_no_stray_lock_file(client, make_version, name, tmp_path, monkeypatch):
    from pathlib import Path

    from mlflow.artifacts import download_artifacts, list_artifacts

    (tmp_path / "uv.lock").write_text("version = 1\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n')
    monkeypatch.chdir(tmp_path)
    make_version(requirements=["safetensors==0.8.0"])
    place = client.get_model_version_download_uri(name, "1")
    files = {Path(f.path).name for f in list_artifacts(place, tracking_uri=client.tracking_uri)}
    assert "served_model.py" in files
    assert not files & {"uv.lock", "pyproject.toml"}
    requirements = Path(download_artifacts(f"{place}/requirements.txt", tracking_uri=client.tracking_uri)).read_text().split()
    assert [r.partition("==")[0] for r in requirements] == ["mlflow", "safetensors"]


def test_the_size_of_a_version_is_that_of_its_files(client, make_version, name, folder):
    make_version()
    own = sum(p.stat().st_size for p in folder.iterdir())
    assert own < version_size_bytes(client, name, 1) < own + 10_000
    (folder / "soft_prompt.safetensors").write_bytes(bytes(50_000))
    make_version()
    grown = version_size_bytes(client, name, 2) - version_size_bytes(client, name, 1)
    assert abs(grown - (50_000 - 256 * 40)) < 10


def test_a_version_whose_registration_broke_off_is_no_candidate(client, make_version, name):
    make_version()
    client.create_model_version(name, "s3://nowhere/model", tags={tags.OUTCOME: "promoted"})
    assert [v.version for v in list_versions(client, name)] == [1]
    assert last_decided(client, name) is None
    with pytest.raises(InvalidInput, match="broke off"):
        get(client, name, 2)
    client.set_registered_model_alias(name, tags.CHAMPION, "2")
    with pytest.raises(InvalidInput, match="version 2"):
        by_alias(client, name, tags.CHAMPION)


def test_a_model_that_cannot_be_saved_leaves_no_version_and_a_failed_model(sqlite_stores, name, folder, tmp_path):
    from softprompt_core.registry import register

    client = connect(sqlite_stores)
    experiment = experiment_id(client, name, sqlite_stores)
    code = tmp_path / "broken.py"
    code.write_text("raise RuntimeError('broken')\n")
    with pytest.raises(Exception, match="broken"):
        register(
            client,
            run_id=start_run(client, experiment, "r", {}),
            name=name,
            folder=folder,
            code=code,
            signature=None,
            input_example=None,
            requirements=["pandas==3.1.1"],
            description="",
            tags={},
        )
    assert list_versions(client, name) == []
    assert [str(m.status) for m in client.search_logged_models([experiment])] == ["FAILED"]


def test_lists_know_the_aliases(client, make_version, name):
    for _ in range(3):
        make_version()
    client.set_registered_model_alias(name, tags.CHAMPION, "2")
    client.set_registered_model_alias(name, "mine", "2")
    client.set_registered_model_alias(name, tags.CHALLENGER, "3")
    aliases = [(3, ("challenger",)), (2, ("champion", "mine")), (1, ())]
    assert [(v.version, v.aliases) for v in list_versions(client, name)] == aliases
    assert [(v.version, v.aliases) for v in list_versions(client) if v.name == name] == aliases
    assert by_alias(client, name, tags.CHAMPION) == get(client, name, 2)
    assert by_alias(client, name, tags.PREVIOUS) is None


@pytest.mark.parametrize("unknown", ["never-registered", "it's", "a/b"])
def test_a_task_without_a_model_is_empty_and_not_an_error(client, unknown):
    assert list_versions(client, unknown) == []
    assert by_alias(client, unknown, tags.CHAMPION) is None
    assert last_decided(client, unknown) is None
    with pytest.raises(InvalidInput, match="no such version"):
        get(client, unknown, 1)


def test_the_last_decided_version_is_the_highest_with_an_outcome(client, make_version, name):
    for outcome in ("promoted", "rejected", None):
        make_version(tags={tags.OUTCOME: outcome})
    assert last_decided(client, name).version == 2


def test_registering_from_threads_mixes_nothing_up(sqlite_stores, folder, make_threaded_version):
    made = {}
    threads = [threading.Thread(target=lambda i=i: made.update({i: make_threaded_version(i)})) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {i: (v.name, v.version) for i, (v, _) in made.items()} == {i: (f"task-{i}", 1) for i in range(3)}
    assert all(version.run_id == run_id for version, run_id in made.values())


@pytest.fixture
def make_threaded_version(sqlite_stores, folder):
    from pathlib import Path

    from mlflow.models import infer_signature

    from softprompt_core.registry import register

    client = connect(sqlite_stores)
    example = pd.DataFrame({"text": ["a row"]})
    signature = infer_signature(example, ["a label"])

    def make(index):
        task = f"task-{index}"
        run_id = start_run(client, experiment_id(client, task, sqlite_stores), task, {})
        version = register(
            client,
            run_id=run_id,
            name=task,
            folder=folder,
            code=Path(__file__).parent / "served_model.py",
            signature=signature,
            input_example=example,
            requirements=["pandas==3.1.1"],
            description="",
            tags={},
        )
        return version, run_id

    return make


def test_files_that_did_not_arrive_as_they_were_sent_are_never_a_version(make_version, client, name, monkeypatch):
    from mlflow import MlflowClient

    put = MlflowClient.log_model_artifacts

    def cut(self, model_id, folder):
        (Path(folder) / "artifacts" / "soft_prompt" / "spec.yaml").write_text("cut")
        put(self, model_id, folder)
        (Path(folder) / "artifacts" / "soft_prompt" / "spec.yaml").write_text("whole")

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", cut)
    with pytest.raises(Unavailable, match=r"1 of \d+ files did not arrive as they were sent: artifacts/soft_prompt/spec.yaml"):
        make_version()
    assert client.search_model_versions(f"name = '{name}'") == []
    monkeypatch.undo()
    assert make_version().version == 1


def test_a_registration_that_broke_off_is_deleted_once_its_run_has_ended(make_version, client, name, run_id, stores):
    client.create_registered_model(name)
    other = start_run(client, experiment_id(client, name, stores), "another", {})
    client.create_model_version(name, "s3://nowhere/model", run_id=other, tags={tags.TASK: name})
    client.create_model_version(name, "s3://nowhere/model", run_id=other)  # somebody else's: it has none of our tags
    assert half_made(client, name) == []  # somebody is at work on it
    client.set_terminated(other, "FAILED")
    assert [half.version for half in half_made(client, name)] == [1]
    assert make_version(tags={tags.TASK: name}).version == 3
    assert sorted(int(one.version) for one in client.search_model_versions(f"name = '{name}'")) == [2, 3]
