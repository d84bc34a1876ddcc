from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from softprompt_core.errors import Outcome
from softprompt_core.evaluation.results import EvaluationResults
from softprompt_core.gates import Assessment, Decision, GateResult, Policy, assess
from softprompt_core.report.description import RUN_LIMIT, VERSION_LIMIT, run_description, version_description
from tests.report.assessments import CANDIDATE, assessment_of

STORED = Path(__file__).parents[1]
GATE = GateResult(
    gate="accuracy at least 0.85", status="failed", reason="0.8 is below 0.85", candidate=0.8, reference=0.85, rows=100
)
VERDICT = "1 of 1 gate failed: accuracy at least 0.85: 0.8 is below 0.85."
DECISION = Decision(passed=False, outcome=Outcome.REJECTED, verdict=VERDICT, results=(GATE,))
ASSESSMENT = dataclasses.replace(
    assessment_of(),
    decision=DECISION,
    metrics={
        "candidate": {"accuracy": 0.8, "loss": 0.5},
        "champion": {"accuracy": 0.82, "loss": 0.4},
        "majority": {"accuracy": 0.5},
    },
    slices={"candidate": {"long|er": {"accuracy": 0.7}}, "champion": {"long|er": {"accuracy": 0.9}}},
)


def version(assessment: Assessment = ASSESSMENT, **changes: object) -> str:
    decision = DECISION.model_copy(update=changes)
    return version_description(
        task="sst2",
        assessment=dataclasses.replace(assessment, decision=decision),
        lineage={"Run": "[abc](http://host/run)"},
        usage="model.predict(['x'])",
    )


def test_the_first_line_is_a_plain_sentence_with_the_result() -> None:
    first = version().splitlines()[0]
    assert first == "Soft prompt for sst2: not promoted. Test accuracy 0.8 (champion 0.82, majority class 0.5)."
    assert version(outcome=Outcome.PROMOTED).startswith("Soft prompt for sst2: all gates passed.")
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
    positions = [text.index(part) for part in parts]
    assert positions == sorted(positions)
    assert "ece" not in text


def test_descriptions_keep_within_what_databases_hold_and_say_so() -> None:
    slices = {scorer: {f"slice {i}": {"accuracy": 0.5} for i in range(400)} for scorer in ("candidate", "champion")}
    long = {"verdict": "x" * 20_000, "results": (GATE,) * 300}
    many = dataclasses.replace(ASSESSMENT, slices=slices)
    text = version(many, **long)
    assert len(text) <= VERSION_LIMIT and "Shortened" in text and "model.predict" in text and "| accuracy |" in text
    many = dataclasses.replace(many, decision=DECISION.model_copy(update=long))
    run = run_description(task="sst2", outcome=Outcome.REJECTED, reason="x" * 20_000, assessment=many, notes=["n" * 100] * 200)
    assert len(run) <= RUN_LIMIT and "Shortened" in run
    assert "Shortened" not in version()


def test_a_run_without_a_decision_says_why() -> None:
    text = run_description(task="sst2", outcome=Outcome.INVALID, reason="the test split is empty", lineage={"Data": "train.csv"})
    assert text == "sst2: invalid.\n\n**the test split is empty**\n\n### Lineage\n\n- Data: train.csv\n"


def test_a_first_version_has_no_change_column() -> None:
    assert "Change" not in version(assessment_of(CANDIDATE, None))


def test_descriptions_are_those_of_the_release_before() -> None:
    results = json.loads((STORED / "evaluation" / "stored" / "evaluation_results.json").read_text(encoding="utf-8"))
    decision = json.loads((STORED / "gates" / "stored" / "decision.json").read_text(encoding="utf-8"))
    assessment = assess(EvaluationResults.model_validate(results), Policy(()), {})
    assessment = dataclasses.replace(assessment, decision=Decision.model_validate(decision))
    both = {"task": "toy", "assessment": assessment, "changes": ["a", "b"], "lineage": {"Run": "x"}}
    run = run_description(**both, outcome=assessment.decision.outcome, reason=assessment.decision.verdict, notes=["n"])
    texts = {"version.md": version_description(**both, usage="model.predict(x)"), "run.md": run}
    for name, text in texts.items():
        assert text == (STORED / "report" / "stored" / name).read_text(encoding="utf-8"), name
