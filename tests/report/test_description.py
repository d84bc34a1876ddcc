from __future__ import annotations

import dataclasses

from softprompt_core.errors import Outcome
from softprompt_core.gates import Decision, GateResult
from softprompt_core.report import run_description, version_description
from softprompt_core.report.description import RUN_LIMIT, VERSION_LIMIT

GATE = GateResult("accuracy at least 0.85", "failed", "0.8 is below 0.85", 0.8, 0.85, 0.85, 100)
DECISION = Decision(False, Outcome.REJECTED, "1 of 1 gate failed: accuracy at least 0.85: 0.8 is below 0.85.", (GATE,))
METRICS = {
    "majority": {"accuracy": 0.5},
    "champion": {"accuracy": 0.82, "loss": 0.4},
    "candidate": {"accuracy": 0.8, "loss": 0.5},
}
SLICES = {"candidate": {"long|er": 0.7}, "champion": {"long|er": 0.9}}


def version(**changes: object) -> str:
    arguments = {
        "task": "sst2",
        "decision": DECISION,
        "metrics": METRICS,
        "headline": ["accuracy", "loss", "ece"],
        "slices": SLICES,
    }
    arguments |= {"lineage": {"Run": "[abc](http://host/run)"}, "usage": "model.predict(['x'])"}
    return version_description(**(arguments | changes))  # type: ignore[arg-type]


def test_the_first_line_is_a_plain_sentence_with_the_result() -> None:
    first = version().splitlines()[0]
    assert first == "Soft prompt for sst2: not promoted. Test accuracy 0.8 (champion 0.82, majority class 0.5)."
    assert version(decision=dataclasses.replace(DECISION, outcome=Outcome.PROMOTED)).startswith(
        "Soft prompt for sst2: all gates passed."
    )
    assert not set("*|#`[") & set(first)


def test_a_version_shows_verdict_comparison_gates_slices_lineage_and_usage_in_this_order() -> None:
    text = version()
    parts = [
        f"**{DECISION.verdict}**",
        "| Metric | Candidate | Champion | Majority class | Change from champion |",
        "| accuracy | 0.8 | 0.82 | 0.5 | -0.0200 |",
        "| loss | 0.5 | 0.4 | – | +0.1000 |",
        DECISION.gates_table().strip(),
        "### Slices (accuracy)",
        "| long\\|er | 0.7 | 0.9 | -0.2000 |",
        "- Run: [abc](http://host/run)",
        "```python\nmodel.predict(['x'])\n```",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "ece" not in text


def test_descriptions_keep_within_what_databases_hold_and_say_so() -> None:
    many = {scorer: {f"slice {i}": 0.5 for i in range(400)} for scorer in ("candidate", "champion")}
    long = dataclasses.replace(DECISION, verdict="x" * 20_000, results=(GATE,) * 300)
    text = version(slices=many, decision=long)
    assert len(text) <= VERSION_LIMIT and "Shortened" in text and "model.predict" in text and "| accuracy |" in text
    run = run_description(
        task="sst2", outcome=Outcome.REJECTED, reason=long.verdict, decision=long, metrics=METRICS, headline=["accuracy"],
        slices=many, notes=["n" * 100] * 200,
    )  # fmt: skip
    assert len(run) <= RUN_LIMIT and "Shortened" in run
    assert "Shortened" not in version()


def test_a_run_without_a_decision_says_why() -> None:
    text = run_description(task="sst2", outcome=Outcome.INVALID, reason="the test split is empty", lineage={"Data": "train.csv"})
    assert text == "sst2: invalid.\n\n**the test split is empty**\n\n### Lineage\n\n- Data: train.csv\n"


def test_a_first_version_has_no_change_column() -> None:
    assert "Change" not in version(metrics={"candidate": {"accuracy": 0.8}}, slices={})
