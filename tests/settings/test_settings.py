"""Settings: which source wins, where a value comes from, what is refused, and that secrets stay secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from softprompt_core import settings
from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.settings import environment_of, home, sources
from softprompt_core.store.addresses import Addresses

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A current folder without a file, none of this machine's settings, and no command line."""
    for name in settings.Settings.model_fields:
        # Set first: that which a test exports is then taken back as well.
        monkeypatch.setenv(settings.variable(name), "")
        monkeypatch.delenv(settings.variable(name))
    monkeypatch.chdir(tmp_path)
    yield
    sources._command_line.clear()


def write(text: str, name: str = settings.FILE) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path.absolute()


def origin(name: str) -> tuple[str, str | None]:
    (setting,) = [setting for setting in settings.explain() if setting.name == name]
    return setting.source, setting.place


def test_each_source_is_stronger_than_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (settings.current().cache_bytes, origin("cache_bytes")) == (2_500_000_000, ("default", None))
    path = write("cache_bytes = 1\n[profiles.night]\ncache_bytes = 2\n[profiles.day]\ncache_bytes = 9\n")
    assert (settings.current().cache_bytes, origin("cache_bytes")) == (1, ("file", str(path)))
    monkeypatch.setenv("SOFTPROMPT_PROFILE", "night")
    assert (settings.current().cache_bytes, origin("cache_bytes")) == (2, ("file", f"{path} [profiles.night]"))
    monkeypatch.setenv("SOFTPROMPT_CACHE_BYTES", "3_000")
    assert (settings.current().cache_bytes, origin("cache_bytes")) == (3000, ("environment", "SOFTPROMPT_CACHE_BYTES"))
    settings.override({"cache_bytes": "4"})
    assert (settings.current().cache_bytes, origin("cache_bytes")) == (4, ("command line", "--set cache_bytes"))


def test_the_file_may_choose_the_profile_and_the_command_line_another_one() -> None:
    write('profile = "a"\n[profiles.a]\nui_url = "http://a"\n[profiles.b]\nui_url = "http://b"\n')
    assert settings.current().ui_url == "http://a"
    settings.override({"profile": "b"})
    assert settings.current().ui_url == "http://b"


def test_paths_in_a_file_are_taken_from_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOFTPROMPT_CONFIG", str(write('home = "store"\ncache_dir = "kv"\n', "conf/machine.toml")))
    assert home() == tmp_path / "conf" / "store"
    assert settings.current().cache_dir == tmp_path / "conf" / "kv"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    write('mlflow_tracking_uri = "http://file"\n')
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert settings.current().mlflow_tracking_uri == "http://file"
    assert origin("mlflow_tracking_uri")[0] == "file"


def test_outcomes_are_written_with_commas_or_as_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    write('notify_on = ["diverged"]\n')
    assert settings.current().notify_on == (Outcome.DIVERGED,)
    monkeypatch.setenv("SOFTPROMPT_NOTIFY_ON", "rejected, promoted")
    assert settings.current().notify_on == (Outcome.REJECTED, Outcome.PROMOTED)


def test_the_stores_follow_the_file() -> None:
    write(
        '[profiles.team]\nmlflow_tracking_uri = "postgresql://db/mlflow"\nartifact_root = "s3://b"\nprefect_api_url = "http://p/api"\n'
    )
    settings.override({"profile": "team"})
    stores = Addresses.from_settings()
    assert (stores.tracking_uri, stores.artifact_root) == ("postgresql://db/mlflow", "s3://b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cache_byte = 1", "unknown setting `cache_byte`; did you mean `cache_bytes`?"),
        ("[profiles.other]\nhme = 'x'", r"\[profiles.other\]: unknown setting `hme`; did you mean `home`?"),
        ("cache_bytes = -1", "softprompt.toml: cache_bytes: Input should be greater than or equal to 0"),
        ("profile = 'taem'", "there is no profile `taem`; did you mean `team`?"),
        ("[profiles.a]\nprofile = 'b'", "`profile` cannot stand here"),
        ("config = 'x'", "`config` cannot stand here"),
        ("profiles = 1", "`profiles` holds tables"),
        ("cache_bytes = ", "is not a readable TOML file"),
        ("notify_block = 'slack'", "a block is named by type and name"),
        ("notify_on = 'lost'", "notify_on"),
        ("profile = 'team'", "needs mlflow_tracking_uri, prefect_api_url"),
        ("profile = 'team'\nmlflow_tracking_uri = 'postgresql://db/x'\nprefect_api_url = 'http://p/api'", "needs artifact_root"),
    ],
)
def test_mistakes_in_the_file_are_named(text: str, message: str) -> None:
    write(text)
    with pytest.raises(InvalidInput, match=message):
        settings.current()


def test_a_named_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_CONFIG", "absent.toml")
    with pytest.raises(InvalidInput, match=r"absent.toml: no such settings file"):
        settings.current()


def test_a_wrong_value_names_its_source_and_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_CACHE_BYTES", "2 GB")
    with pytest.raises(InvalidInput, match="SOFTPROMPT_CACHE_BYTES: cache_bytes"):
        settings.current()
    with pytest.raises(InvalidInput, match="--set cache_byte"):
        settings.override({"cache_byte": "1"})


def test_a_mistyped_variable_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_CACHE_BYTE", "1")
    assert settings.unknown_variables() == ["SOFTPROMPT_CACHE_BYTE is no setting; did you mean `SOFTPROMPT_CACHE_BYTES`?"]


def test_libraries_and_child_processes_see_file_and_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    write('mlflow_tracking_password = "geheim"\nprefect_api_url = "http://file/api"\nnotify_on = ["rejected", "invalid"]\n')
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    settings.override({"mlflow_tracking_uri": "http://command-line"})
    before = settings.current()
    settings.export()
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "geheim"
    assert os.environ["PREFECT_API_URL"] == "http://file/api"
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://command-line"
    assert "SOFTPROMPT_CACHE_BYTES" not in os.environ, "defaults are not set in stone for children"
    sources._command_line.clear()
    Path(settings.FILE).unlink()
    assert settings.current() == before


def softprompt(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_config_show_says_where_each_value_comes_from_and_no_secret() -> None:
    path = write('[profiles.team]\nprefect_api_url = "http://p/api"\nprefect_api_auth_string = "me:geheim1"\n')
    result = softprompt(
        *("--profile", "team", "config", "show", "--json"),
        MLFLOW_TRACKING_URI="https://me:geheim2@mlflow",
        AWS_SECRET_ACCESS_KEY="geheim3",
    )
    assert result.returncode == 0, result.stderr
    assert "geheim" not in result.stdout + result.stderr
    shown = {setting["name"]: setting for setting in json.loads(result.stdout)}
    assert shown["mlflow_tracking_uri"]["value"] == "https://me:***@mlflow"
    assert (shown["profile"]["source"], shown["profile"]["place"]) == ("command line", "--profile")
    assert shown["prefect_api_auth_string"]["place"] == f"{path} [profiles.team]"
    table = softprompt("--profile", "team", "--set", "mlflow_tracking_uri=http://m", "config", "show")
    assert "command line: --set mlflow_tracking_uri" in table.stdout and "geheim" not in table.stdout


def test_a_mistake_is_one_message_and_exit_code_40() -> None:
    write("cache_byte = 1\n")
    result = softprompt("config", "show")
    assert (result.returncode, result.stdout) == (40, "")
    assert result.stderr.startswith("invalid: ") and "Traceback" not in result.stderr
    assert softprompt("--set", "cache_bytes", "config", "show").returncode == 40


def test_reading_settings_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'mlflow', 'prefect', 'pandas'}"
    code = f"import sys; from softprompt_core import settings; settings.current(); print({heavy} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert result.stdout == "set()\n", result.stderr


def test_the_page_names_every_setting_and_its_variable() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for name in settings.Settings.model_fields:
        assert f"| `{name}` | `{settings.variable(name)}` |" in page


def test_another_profile_gets_the_file_and_what_was_meant_for_it_but_no_log_in_of_this_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write(
        '[profiles.staging]\nmlflow_tracking_uri = "http://staging"\n[profiles.prod]\nmlflow_tracking_uri = "http://prod"\n'
    )
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "of prod")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://prod-2")
    monkeypatch.setenv("SOFTPROMPT_FROM_MLFLOW_TRACKING_TOKEN", "of staging")
    monkeypatch.setenv("SOFTPROMPT_FROM_CACHE_BYTES", "5")
    settings.override({"profile": "prod", "home": "here"})
    assert settings.unknown_variables() == []
    environment = environment_of("staging")
    known = {settings.variable(name) for name in settings.Settings.model_fields}
    assert {name: value for name, value in environment.items() if name in known} == {
        "SOFTPROMPT_CONFIG": str(path),
        "SOFTPROMPT_PROFILE": "staging",
        "MLFLOW_TRACKING_TOKEN": "of staging",
        "SOFTPROMPT_CACHE_BYTES": "5",
    }
    assert environment["PATH"] == os.environ["PATH"]
    monkeypatch.setenv("SOFTPROMPT_FROM_MLFLOW_TOKEN", "mistyped")
    with pytest.raises(InvalidInput, match="SOFTPROMPT_FROM_MLFLOW_TOKEN: names no setting"):
        environment_of("staging")
