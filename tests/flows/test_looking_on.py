"""What goes wrong with one champion, or with Prefect, does not stop the look at the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from softprompt_core.errors import Health, InvalidInput


def test_a_verdict_that_prefect_cannot_be_told_stands_and_the_next_champion_is_looked_at(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows import monitor
    from softprompt_core.operations.monitor import HealthResult

    def unreachable(**_: object) -> None:
        raise RuntimeError("no server")

    monkeypatch.setattr(monitor, "emit_event", unreachable)
    monkeypatch.setattr(monitor, "check_champion", lambda name, *_: HealthResult(task=name, health=Health.HEALTHY, reason="fine"))
    results = [monitor._check(name, {}) for name in ("first", "second")]
    assert [(result.task, result.health) for result in results] == [("first", Health.HEALTHY), ("second", Health.HEALTHY)]
    assert "Prefect was not told about first: RuntimeError: no server" in capsys.readouterr().err


def test_a_folder_without_specs_does_not_stop_the_other_champions(tmp_path: Path) -> None:
    from flows.revalidate import _expand, _revalidate

    empty, name = _expand([str(tmp_path), "a-task"])
    assert isinstance(empty, InvalidInput) and name == "a-task"
    result = _revalidate(empty, None)
    assert result.validity.value == "cannot" and "no spec files" in result.reason
