"""An error that nobody foresaw, at one champion, stops neither monitoring nor revalidation of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from softprompt_core.errors import Health, Validity
from softprompt_core.evaluation.results import EVIDENCE_FILE
from softprompt_core.store.connection import Store
from tests.lifecycles import run_lifecycle
from tests.tiny_models import save_tiny
from tests.toy_task import rows, write_rows, write_toy

pytestmark = pytest.mark.usefixtures("prefect_server", "empty_home")


def test_a_champion_that_breaks_off_with_an_unforeseen_error_does_not_stop_the_others(
    taught_base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from flows.monitor import run_monitor
    from flows.revalidate import run_revalidation

    gates = [{"metric": "accuracy", "at_least": 0.0}]
    short = {"max_steps": 2, "eval_every": 1, "batch_size": 16}
    path = write_toy(tmp_path / "task", taught_base, name="broken", gates=gates, training=short)
    broken = run_lifecycle(path, evidence=False)
    Store.connect().client.log_text(broken.run_id, "{", EVIDENCE_FILE)
    data = write_rows(tmp_path / "new.csv", rows(40, seed=7))
    capfd.readouterr()

    first, second = run_monitor(["broken", "nobody"], [str(data)])
    assert (first.task, first.health, first.exit_code) == ("broken", Health.UNKNOWN, 50)
    assert first.reason.startswith("JSONDecodeError: ") and first.reason.endswith("(traceback on stderr)")
    assert "Traceback" in capfd.readouterr().err
    assert (second.task, second.exit_code) == ("nobody", 40)

    other = save_tiny(tmp_path / "other", "llama")
    validities = run_revalidation(["broken", "nobody"], str(other), None)
    assert [(each.task, each.validity) for each in validities] == [(n, Validity.CANNOT) for n in ("broken", "nobody")]
    assert validities[0].reason.startswith("JSONDecodeError: ") and validities[1].reason == "There is no champion."
