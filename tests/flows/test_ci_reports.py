"""JUnit files and GitHub summaries: what each outcome becomes, and words that would break them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from flows.cli.ci_reports import github_summary, junit, require_writable
from flows.cli.output import print_results
from softprompt_core.errors import InvalidInput, NoOutcome, Outcome
from softprompt_core.lifecycle.result import LifecycleResult, exit_code

EVERY = [*Outcome, *NoOutcome]


def result(task: str, outcome: Outcome | NoOutcome, reason: str, **details: Any) -> LifecycleResult:
    return LifecycleResult(task=task, outcome=outcome, reason=reason, **details)


def case(ended: LifecycleResult) -> ElementTree.Element:
    test_case = ElementTree.fromstring(junit([ended])).find("testsuite/testcase")
    assert test_case is not None
    return test_case


@pytest.mark.parametrize("outcome", EVERY)
def test_every_outcome_becomes_one_kind_of_test_case(outcome: Outcome | NoOutcome) -> None:
    wanted = {
        "promoted": "system-out",
        "unchanged": "system-out",
        "rejected": "failure",
        "awaiting_approval": "skipped",
        "triggered": "skipped",
    }
    (part,) = case(result("t", outcome, "why", gates=("✗ accuracy",), run_url="http://mlflow/run"))
    assert part.tag == wanted.get(outcome.value, "error")
    assert part.text is not None and part.text.splitlines() == ["why", "✗ accuracy", "http://mlflow/run"]


@pytest.mark.parametrize("outcome", EVERY)
def test_a_result_survives_json(outcome: Outcome | NoOutcome) -> None:
    ended = result("t", outcome, "why", version=3, gates=("a", "b"), dry_run=True)
    assert LifecycleResult.model_validate(ended.model_dump(mode="json")) == ended


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("dry_run", [False, True])
def test_the_name_of_a_state_tells_the_outcome(outcome: Outcome, dry_run: bool) -> None:
    from flows.state_names import read_state_name, state_name

    assert read_state_name(state_name(result("t", outcome, "", dry_run=dry_run))) == (outcome, dry_run)
    assert read_state_name("Completed") == read_state_name(None) == (None, False)


@pytest.mark.parametrize(
    "decision, code, strict, part, mark, label",
    [
        (Outcome.PROMOTED, 0, 10, "system-out", "✅", "unchanged"),
        (Outcome.REJECTED, 20, 20, "failure", "❌", "unchanged (rejected)"),
        (Outcome.AWAITING_APPROVAL, 30, 30, "skipped", "⏸", "unchanged (awaiting_approval)"),
    ],
)
def test_unchanged_is_what_the_version_is_that_it_stands_for(
    decision: Outcome, code: int, strict: int, part: str, mark: str, label: str
) -> None:
    from flows.state_names import read_stands_for, read_state_name, state_name

    ended = result("t", Outcome.UNCHANGED, "as before", stands_for=decision, version=2)
    assert (exit_code([ended]), exit_code([ended], strict=True), ended.label) == (code, strict, label)
    told = ended.model_dump(mode="json")
    assert (told["outcome"], told["stands_for"], told["exit_code"]) == ("unchanged", decision.value, code)
    assert LifecycleResult.model_validate(told) == ended
    (found,) = case(ended)
    assert found.tag == part and (part == "system-out" or found.get("type") == decision.value)
    row = next(line for line in github_summary([ended]).splitlines() if line.startswith("| ") and " t " in line)
    assert row.startswith(f"| {mark} | t | {label.replace('_', ' ')} | v2 ")
    for dry_run in (False, True):
        name = state_name(ended.model_copy(update={"dry_run": dry_run}))
        assert read_state_name(name) == (Outcome.UNCHANGED, dry_run) and read_stands_for(name) is decision
    assert read_stands_for("Rejected") is None and read_stands_for("Unchanged (nonsense") is Outcome.PROMOTED


def test_exit_codes_of_what_is_no_outcome() -> None:
    codes = {why.value: why.exit_code for why in NoOutcome}
    assert codes == {"triggered": 0, "cancelled": 60, "timed_out": 124, "interrupted": 130}
    results = [result("t", outcome, "") for outcome in EVERY]
    assert exit_code(results) == 130 and exit_code(results[:-1]) == 124


def test_counts_times_and_control_characters() -> None:
    results = [
        result("a", Outcome.REJECTED, "a\x00b <&> \x1b[31m", seconds=1.25),
        result("b", Outcome.INVALID, "first\nsecond", seconds=2.0, dry_run=True),
        result("c", Outcome.PROMOTED, "better"),
    ]
    suite = ElementTree.fromstring(junit(results))[0]
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")}
    assert counts == {"tests": "3", "failures": "1", "errors": "1", "skipped": "0", "time": "3.2"}
    failure, error = suite.find(".//failure"), suite.find(".//error")
    assert failure is not None and failure.text == "a�b <&> �[31m"
    assert error is not None and error.get("message") == "dry run: invalid: first"


def test_a_summary_is_a_table_that_other_peoples_words_do_not_break() -> None:
    results = [
        result(
            "a",
            Outcome.REJECTED,
            "because </pre><script>",
            version=2,
            metric="accuracy",
            scores={"candidate": 0.5},
            gates=["✗ x | y"],
        ),
        result("b", Outcome.PROMOTED, "better", prefect_url="http://prefect/run"),
    ]
    text = github_summary(results)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2].startswith("| ❌ | a | rejected | v2 | accuracy | 0.5 | – |")
    assert rows[3].startswith("| ✅ | b | promoted |") and rows[3].endswith("| [Prefect](http://prefect/run) |")
    assert "<script>" not in text and "because &lt;/pre&gt;&lt;script&gt;\n✗ x | y</pre>" in text
    assert text.count("<details open>") == text.count("<details>") == 1


def test_a_file_that_cannot_be_written_is_found_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be written"):
        require_writable(tmp_path / "file" / "junit.xml", "--junit")
    require_writable(tmp_path / "new" / "folder" / "junit.xml", "--junit")


def test_the_command_that_approves_is_told_as_long_as_a_version_waits(capsys: pytest.CaptureFixture[str]) -> None:
    waits = result("t", Outcome.AWAITING_APPROVAL, "gates passed", version=3)
    stands = result("t", Outcome.UNCHANGED, "as before", version=3, stands_for=Outcome.AWAITING_APPROVAL)
    for told in (waits, stands):
        print_results([told])
        assert "t: to approve: softprompt registry approve t 3 --by WHO --reason WHY" in capsys.readouterr().out
    for other in (waits.model_copy(update={"dry_run": True}), result("t", Outcome.PROMOTED, "", version=3)):
        print_results([other])
        assert "approve" not in capsys.readouterr().out
