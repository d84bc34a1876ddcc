"""A task's champions as people live through them: commands on a real record, lifecycles on a real Prefect server."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softprompt_core.decisions import reevaluate
from softprompt_core.errors import Outcome
from softprompt_core.store import tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import entries, recording
from softprompt_core.store.ledger.recording import NewDecision
from tests.toy_task import write_toy

ROOT = Path(__file__).parents[2]
WEAK: dict[str, Any] = {"training": {"max_steps": 1, "eval_every": 1, "batch_size": 4, "learning_rate": 1e-6}}
ANYTHING = [{"metric": "accuracy", "at_least": 0.01}]
NO_WORSE = [{"metric": "accuracy", "at_least": 0.8}, {"metric": "accuracy", "versus": "champion", "margin": 0.1}]
BETTER = [{"metric": "accuracy", "at_least": 0.8}, {"metric": "accuracy", "versus": "champion", "at_least_by": 0.2}]
Command = Callable[..., tuple[int, str, str]]
BY_ANN = ("--by", "ann", "--reason")


def run(*paths: Path) -> list[str]:
    from flows.fleet import run_all

    return [result.outcome.value for result in run_all(list(paths), force=False)]


def flip_labels(folder: Path, share: float) -> None:
    turned = {"positive": "negative", "negative": "positive"}
    for split in ("train", "validation", "test"):
        with (folder / f"{split}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows[: round(share * len(rows))]:
            row["label"] = turned[row["label"]]
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


def aliases(name: str) -> dict[str, int]:
    return versions.aliases(Store.connect(), name)


@pytest.fixture
def at_home(prefect_server: None, flow_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPROMPT_HOME", str(flow_home))


def test_bad_labels_are_rejected_a_better_prompt_is_promoted_and_rolled_back(
    at_home: None, taught_base: Path, tmp_path: Path, here: Command
) -> None:
    path = write_toy(tmp_path, taught_base, name="story")
    assert run(path) == ["promoted"]

    good = {file.name: file.read_text() for file in tmp_path.glob("*.csv")}
    flip_labels(tmp_path, 0.3)
    assert run(path) == ["rejected"]
    assert aliases("story") == {"champion": 1, "challenger": 2}
    code, out, _ = here("registry", "history", "story")
    assert code == 0 and "reject version 2" in out and "accuracy at least 0.8" in out.splitlines()[-1] and "is below 0.8" in out

    for file, text in good.items():
        (tmp_path / file).write_text(text)
    better = write_toy(tmp_path, taught_base, name="story", prompt={"length": 5})
    assert run(better) == ["promoted"]
    assert aliases("story") == {"champion": 3, "previous": 1, "challenger": 2}

    code, out, _ = here("registry", "rollback", "story", *BY_ANN, "customers complain")
    assert (code, out.splitlines()) == (0, ["story: champion is version 1, it was version 3", "rolled back"])
    assert aliases("story") == {"champion": 1, "challenger": 2}
    (*_, last) = json.loads(here("registry", "history", "story", "--json")[1])
    assert (last["action"], last["who"], last["why"], last["version"], last["champion_before"]) == (
        "rollback",
        "ann",
        "customers complain",
        1,
        3,
    )
    assert last["run_id"] and f"/runs/{last['run_id']}?" in last["run_url"]
    (listed,) = [row for row in json.loads(here("registry", "list", "--json")[1]) if row["task"] == "story"]
    assert (listed["champion"], listed["newest"], listed["newest_note"]) == (1, 3, "rolled back")
    assert run(better) == ["unchanged"]  # the next scheduled run does not bring it back

    code, _, err = here("registry", "rollback", "story", *BY_ANN, "further")
    assert code == 40 and "there is no earlier champion" in err
    code, _, err = here("registry", "promote", "story", 2, *BY_ANN, "I like it")
    assert code == 40 and "was rejected" in err and "--override" in err
    code, out, _ = here("registry", "promote", "story", 3, *BY_ANN, "the complaint was wrong")
    assert (code, out.splitlines()[-1]) == (0, "promoted") and "✓ accuracy no worse than the champion" in out
    assert aliases("story") == {"champion": 3, "previous": 1, "challenger": 2}
    assert tags.WITHDRAWN not in versions.get(Store.connect(), "story", 3).tags
    assert here("registry", "promote", "story", 2, *BY_ANN, "a test", "--override")[0] == 0
    assert entries.history(Store.connect(), "story")[-1].override
    assert "promote (override)" in here("registry", "history", "story")[1]

    code, out, _ = here("registry", "prune", "story", "--keep", 0)
    assert code == 0 and "would delete 1" in out  # version 1; 2 is champion, 3 previous
    assert here("registry", "prune", "story", "--keep", 0, "--yes")[0] == 40
    assert json.loads(here("registry", "prune", "story", "--keep", 0, "--yes", *BY_ANN, "tidy", "--json")[1])["deleted"] == [1]
    assert [v.version for v in versions.list_versions(Store.connect(), "story")] == [3, 2]
    assert entries.history(Store.connect(), "story")[-1].deleted == (1,)


def test_an_approval_that_has_gone_stale_runs_the_gates_again(
    at_home: None, taught_base: Path, tmp_path: Path, here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spec(length: int, **changes: Any) -> Path:
        return write_toy(tmp_path, taught_base, name="stale", prompt={"length": length}, **changes)

    assert run(spec(4, gates=ANYTHING, **WEAK)) == ["promoted"]
    assert run(spec(4, gates=BETTER, approval="required")) == ["awaiting_approval"]
    (waiting,) = json.loads(here("registry", "pending", "stale", "--json")[1])
    assert (waiting["version"], waiting["expired"], waiting["champion_moved"]) == (2, False, False)
    assert run(spec(5, gates=NO_WORSE)) == ["promoted"]
    assert "gates will run again" in here("registry", "pending", "stale")[1]

    # Better than version 1 by far, but not than version 3, which came meanwhile.
    code, out, _ = here("registry", "approve", "stale", 2, *BY_ANN, "looks good")
    assert code == 20 and out.splitlines()[-1] == "rejected"
    assert "the gates ran again because the champion is version 3 by now" in out and "ann had said: looks good" in out
    assert aliases("stale") == {"champion": 3, "previous": 1, "challenger": 2}
    store = Store.connect()
    code, out, _ = here("gates", "explain", "stale", 2)
    assert code == 0 and "same verdict" in out, "the decision that counts is the second one, and it can be replayed"
    kept = versions.get(store, "stale", 2)
    assert Path(store.client.download_artifacts(kept.run_id, "gates/again-champion-3.json")).stat().st_size > 0
    assert here("registry", "pending", "stale")[1] == "nothing waits for approval\n"
    code, _, err = here("registry", "approve", "stale", 2, *BY_ANN, "again")
    assert code == 40 and "does not wait for approval, it is rejected" in err

    # The answers that both gave to the same rows are stored; scoring all again leads to the same verdict.
    stored, _ = reevaluate.reevaluate(store, kept, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reevaluate, "_same_rows", lambda *_: False)
        again, _ = reevaluate.reevaluate(store, kept, 3)
    assert again == stored and not again.passed
    with monkeypatch.context() as patch:
        patch.setattr(reevaluate, "_scored_again", None)  # it is not needed
        assert reevaluate.reevaluate(store, kept, 1)[0].passed

    # The form in Prefect's pages does what the command does.
    assert run(spec(6, gates=NO_WORSE, approval="required")) == ["awaiting_approval"]
    from flows.approval import approval

    state = approval(name="stale", version=4, decision="approve", by=" ", reason="fine", return_state=True)
    assert (state.name, state.type.value) == ("Invalid", "FAILED") and "who decided" in (state.message or "")
    assert here("registry", "rollback", "stale", *BY_ANN, "to the weak one")[0] == 0
    state = approval(name="stale", version=4, decision="approve", by="bob", reason="better", return_state=True)
    assert (state.name, state.type.value) == ("Promoted", "COMPLETED"), state.message
    assert aliases("stale") == {"champion": 4, "previous": 1}
    entry = entries.history(store, "stale")[-1]
    assert (entry.action, entry.by) == ("approve", "bob") and entry.reason.startswith("better (the gates ran again because")

    # A version that nobody approved in time is not decided about: the task runs again.
    late = spec(7, gates=NO_WORSE, approval="required", approval_expires_days=1)
    assert run(late) == ["awaiting_approval"]
    assert run(late) == ["unchanged"]
    store.client.set_model_version_tag("stale", "5", tags.APPROVAL_EXPIRES, "2020-01-01T00:00:00+00:00")
    code, _, err = here("registry", "approve", "stale", 5, *BY_ANN, "late")
    assert code == 40 and "its approval expired on 2020-01-01" in err and "run the task again" in err
    assert "expired" in here("registry", "pending", "stale")[1]
    assert run(late) == ["awaiting_approval"]
    assert here("registry", "reject", "stale", 5, *BY_ANN, "too late")[:1] == (0,)

    # Scored again, on data that are not those any more: refused.
    flip_labels(tmp_path, 0.3)
    assert here("registry", "rollback", "stale", *BY_ANN, "once more")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(reevaluate, "_same_rows", lambda *_: False)
        patch.setattr(reevaluate, "stored_rows", lambda *_: None)  # of a release that kept no rows
        code, _, err = here("registry", "approve", "stale", 6, *BY_ANN, "fine")
    assert code == 40 and "the data is not what it was evaluated with any more" in err
    assert aliases("stale")["champion"] == 1
    # Its own test rows are kept in its run: they decide, whatever became of the files.
    with monkeypatch.context() as patch:
        patch.setattr(reevaluate, "_same_rows", lambda *_: False)
        code, out, err = here("registry", "approve", "stale", 6, *BY_ANN, "fine")
    assert code == 0 and "the gates ran again because the champion is version 1 by now" in out, err
    assert aliases("stale")["champion"] == 6


def test_prefects_form_has_a_field_for_everything() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.approval import approval

    schema = parameter_schema(approval)
    assert list(schema.properties) == ["name", "version", "decision", "by", "reason"]
    assert schema.required == list(schema.properties)
    assert schema.properties["decision"]["enum"] == ["approve", "reject"]
    assert schema.properties["version"]["type"] == "integer"
    assert all(field["description"] for field in schema.properties.values())


def test_the_form_can_be_loaded_from_its_file_as_a_runner_does() -> None:
    from prefect.flows import load_flow_from_entrypoint

    loaded = load_flow_from_entrypoint(f"{ROOT / 'flows' / 'approval.py'}:approval")
    given = {"name": "toy", "version": "3", "decision": "approve", "by": "ann", "reason": "fine"}
    assert loaded.validate_parameters(given) == {**given, "version": 3}
    with pytest.raises(Exception, match="decision"):
        loaded.validate_parameters({**given, "decision": "maybe"})


@pytest.fixture
def three_versions(empty_home: Path) -> Path:
    """A task whose training is broken: versions without files, of a base that is nowhere. 1 was champion, 2 is, 3 waits."""
    store = Store.connect()
    store.client.create_registered_model("bare")
    for base in ("a", "a", "b"):
        given = {tags.STATUS: tags.REGISTERED, tags.BASE_FINGERPRINT: base * 64}
        store.client.create_model_version("bare", (empty_home / "nothing").as_uri(), tags=given)
    for version, champion, outcome in ((1, None, Outcome.PROMOTED), (2, 1, Outcome.PROMOTED), (3, 2, Outcome.AWAITING_APPROVAL)):
        evidence = entries.EvidenceRef("0" * 32, "f" * 64)
        recording.record_decision(store, NewDecision("bare", version, champion, outcome, "a test", "gates", evidence))
    return empty_home


def test_rollback_and_approval_load_no_model_libraries(three_versions: Path) -> None:
    commands = [
        ["approve", "bare", "3", *BY_ANN, "fine"],
        ["rollback", "bare", *BY_ANN, "it was not", "--other-base"],
        ["history", "bare"],
    ]
    code = f"""
import sys
from flows.cli import main
for command in {commands!r}:
    sys.argv = ["softprompt", "registry", *command]
    try:
        main()
    except SystemExit as ended:
        print(sorted({{"torch", "transformers", "datasets", "prefect"}} & set(sys.modules)), ended.code, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stderr.splitlines()[-3:] == ["[] 0", "[] 0", "[] 0"] or done.stderr.splitlines()[-3:] == [
        "[] 0",
        "[] None",
        "[] None",
    ]
    assert aliases("bare") == {"champion": 2, "previous": 1}


def test_a_rollback_to_another_base_or_to_what_never_was_champion_is_refused(three_versions: Path, here: Command) -> None:
    code, _, err = here("registry", "rollback", "bare", "--to", 3, *BY_ANN, "x")
    assert code == 40 and "was never champion" in err
    assert here("registry", "approve", "bare", 3, *BY_ANN, "fine")[0] == 0
    code, _, err = here("registry", "rollback", "bare", *BY_ANN, "back")
    assert code == 40 and "was trained for another base (aaaaaaaa) than the champion's (bbbbbbbb)" in err
    assert aliases("bare") == {"champion": 3, "previous": 2}
    assert here("registry", "rollback", "bare", "--to", 1, *BY_ANN, "back", "--other-base")[0] == 0
    assert aliases("bare") == {"champion": 1}
    for wrong, words in (((99,), "does not exist any more"), ((1,), "is the champion already")):
        code, _, err = here("registry", "rollback", "bare", "--to", *wrong, *BY_ANN, "x")
        assert code == 40 and words in err
    assert here("registry", "rollback", "bare", "--by", "ann", "--reason", " ")[0] == 40
    assert here("registry", "rollback", "bare", "--by", "ann")[0] == 2


def test_a_person_must_be_named_and_only_what_waits_can_be_decided(three_versions: Path, here: Command) -> None:
    before = entries.history(Store.connect(), "bare")
    for command in (("approve", "bare", 3, "--by", "ann"), ("reject", "bare", 3, "--reason", "x")):
        assert here("registry", *command)[0] == 2
    for by, reason, words in ((" ", "x", "name of who decided"), ("ann", " ", "needs a reason")):
        code, _, err = here("registry", "approve", "bare", 3, "--by", by, "--reason", reason)
        assert code == 40 and words in err
    for verb, version, words in (
        ("approve", 2, "it is promoted"),
        ("reject", 1, "it is promoted"),
        ("promote", 3, "waits for approval"),
        ("promote", 2, "is the champion already"),
        ("approve", 9, "no such version"),
    ):
        code, _, err = here("registry", verb, "bare", version, *BY_ANN, "x")
        assert code == 40 and words in err, err
    assert entries.history(Store.connect(), "bare") == before
    code, out, _ = here("registry", "reject", "bare", 3, *BY_ANN, "too slow", "--json")
    assert code == 0 and json.loads(out)["outcome"] == "rejected"
    assert entries.history(Store.connect(), "bare")[-1].reason == "too slow"


def test_a_champion_moved_by_hand_is_said_everywhere_and_repaired(three_versions: Path, here: Command) -> None:
    store = Store.connect()
    store.client.set_registered_model_alias("bare", tags.CHAMPION, "1")
    words = "champion was moved by hand: it is version 1, the ledger has version 2"
    for command in (("registry", "list"), ("registry", "show", "bare"), ("registry", "history", "bare"), ("doctor",)):
        code, out, _ = here(*command)
        assert code == (50 if command == ("doctor",) else 0) and words in " ".join(out.split()), command
    assert re.search(r"bare version 1 \((champion, previous|previous, champion)\): its files are gone", " ".join(out.split()))
    code, _, err = here("registry", "approve", "bare", 3, *BY_ANN, "fine")
    assert code == 40 and "bare version 3: its files are gone" in err
    code, out, _ = here("doctor", "--repair")
    assert code == 50 and "moved by hand version 1 is completed" in " ".join(out.split())
    out = here("registry", "history", "bare")[1]
    assert "moved by hand" in out
    assert "moved by hand" not in here("registry", "show", "bare")[1]
    store.client.set_registered_model_tag("bare", f"{tags.LEDGER_PREFIX}yesterday", "somebody's own words")
    code, out, _ = here("registry", "list")
    assert code == 0 and "this ledger entry cannot be read" in out
    assert here("doctor")[0] == 50
