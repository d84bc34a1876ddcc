"""The gate report: what it shows first, that nobody's words become markup, and which rows it calls worse."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from softprompt_core.data import DataChanges, SplitChange
from softprompt_core.errors import Outcome
from softprompt_core.evaluation import Predictions
from softprompt_core.evaluation.changes import changed_answers
from softprompt_core.evaluation.results import SeedScore
from softprompt_core.gates import Assessment, Decision, GateResult
from softprompt_core.report.figures import learning_curve, png
from softprompt_core.report.gate_figure import gate_figure
from softprompt_core.report.page import NearTokens, PageDetails, gate_page, result_sentence
from tests.report.assessments import CANDIDATE, CHAMPION, answers, assessment_of

EVIL = "<script>alert('x')</script> & \"quoted\" <b>|</b>"
DATA = DataChanges((SplitChange("train", 60, 62, 3, 1, 18),), {"a": (0.5, 0.75)})
ASSESSMENT = dataclasses.replace(assessment_of(), data_changes=DATA)
DETAILS = PageDetails(
    task="toy",
    version=7,
    comparison_png=png(gate_figure(ASSESSMENT, title="t")),
    curve_png=png(learning_curve([{"step": 1, "loss": 1.0}])),
    tokens=[NearTokens("0", ["film 0.91"], 0.5)],
    links={"MLflow run": "http://host/#/run", "Prefect run": "javascript:alert(1)"},
)


def page(assessment: Assessment = ASSESSMENT, **changes: object) -> str:
    return gate_page(assessment, dataclasses.replace(DETAILS, **changes))  # type: ignore[arg-type]


class Outline(HTMLParser):
    """Headings in order, all tags, and whether every tag that was opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def test_the_verdict_comes_first_and_then_the_reasons() -> None:
    outline = Outline(page())
    assert outline.headings[:2] == ["toy version 7: promoted", "Why: the gates"]
    assert outline.headings[2:] == [
        "Candidate and the others",
        "Test rows",
        "Slices",
        "Answers that differ from the champion's",
        "Data since the champion",
        "Training",
        "What the vectors lie next to",
        "Where it comes from",
    ]
    assert not outline.open


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    tags = Outline(page()).tags
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags}
    images = [attributes["src"] or "" for tag, attributes in tags if tag == "img"]
    assert len(images) == 2 and all(source.startswith("data:image/png;base64,") for source in images)
    # Only web addresses become links; another scheme could run something.
    assert [attributes["href"] for tag, attributes in tags if tag == "a"] == ["http://host/#/run"]


def test_other_peoples_words_never_become_markup() -> None:
    def evil(scorer: str, answer: str) -> Predictions:
        others = answers(scorer, "aaaabbaa")
        first = {"ids": EVIL, "gold": EVIL, "predicted": answer}
        fields = {name: (text, *getattr(others, name)[1:]) for name, text in first.items()}
        slices = {EVIL: others.slices["first"]}
        return others.model_copy(update={**fields, "slices": slices, "labels": ("a", "b", EVIL)})

    assessment = assessment_of(
        evil("candidate", EVIL + "2"), evil("champion", EVIL), baselines={EVIL: evil(EVIL, "a")}, inputs={EVIL: EVIL}
    )
    gate = GateResult(gate=EVIL, status="failed", reason=EVIL, slice=EVIL)
    seeds = tuple(SeedScore(seed=i, validation=1, test=None, best_step=1, stopped=EVIL, chosen=not i) for i in range(2))
    assessment = dataclasses.replace(
        assessment,
        results=assessment.results.model_copy(update={"seeds": seeds}),
        decision=Decision(
            passed=False, outcome=Outcome.REJECTED, verdict=EVIL, results=(gate, gate.model_copy(update={"parts": (gate,)}))
        ),
        data_changes=DataChanges((SplitChange(EVIL, 1, 1, None, None, None),), {EVIL: (1.0, 1.0)}),
        data_note=EVIL,
    )
    text = page(
        assessment,
        task=EVIL,
        notes=[EVIL],
        tokens=[NearTokens(EVIL, [EVIL], None)],
        links={EVIL: f"http://host/{EVIL}"},
        facts={EVIL: EVIL},
    )
    known = {tag for tag, _ in Outline(page()).tags} | {"ul", "li"}
    outline = Outline(text)
    assert {tag for tag, _ in outline.tags} <= known and "<script" not in text and not outline.open
    assert "<b>|" not in text and text.count("&lt;script&gt;") >= 25


def test_worse_answers_stand_before_better_ones() -> None:
    changed = changed_answers(CHAMPION, CANDIDATE, {"test/1": "a text"})
    assert [(row.kind, row.id, row.before, row.after) for row in changed.changed] == [
        ("worse", "test/1", "a", "b"),
        ("better", "test/6", "a", "b"),
        ("better", "test/7", "a", "b"),
    ]
    assert changed.changed[0].input == "a text" and str(changed) == "3 of 8 test answers changed: 1 worse, 2 better"
    assert str(changed_answers(CHAMPION, CHAMPION, {})) == "all 8 test answers are the same"


def test_generated_texts_are_ordered_by_how_much_they_lost() -> None:
    gold = ("the cat sat down", "a b c", "x y")
    rows = {"ids": ("0", "1", "2"), "gold": gold, "loss": (1.0,) * 3, "slices": {}, "labels": ()}
    before = Predictions(scorer="champion", predicted=("the cat sat", "a b", "z"), **rows)
    after = Predictions(scorer="candidate", predicted=("the cat", "nothing", "x y"), **rows)
    assert [(row.id, row.kind) for row in changed_answers(before, after, {}).changed] == [
        ("1", "worse"),
        ("0", "worse"),
        ("2", "better"),
    ]


def test_answers_to_other_rows_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same rows"):
        changed_answers(CHAMPION, answers("candidate", "aaaa", "aaaa"), {})


def test_long_lists_and_texts_are_cut_and_say_so() -> None:
    gold = "a" * 200
    assessment = assessment_of(
        answers("candidate", "b" * 200, gold), answers("champion", gold, gold), baselines={}, inputs={"test/0": "x" * 5000}
    )
    text = page(assessment)
    assert "180 more are in evaluation/examples.json" in text and "x" * 401 not in text and "x" * 399 + "…" in text


def test_a_seed_is_shown_beside_others_only() -> None:
    seeds = [SeedScore(seed=i, validation=0.5, test=0.25, best_step=9, stopped="patience", chosen=i == 1) for i in range(2)]

    def shown(count: int) -> str:
        return page(dataclasses.replace(ASSESSMENT, results=ASSESSMENT.results.model_copy(update={"seeds": seeds[:count]})))

    assert "1 (candidate)" in shown(2) and "Test accuracy</th>" in shown(2)
    assert "Best step" not in shown(1)


def test_the_result_is_one_sentence_with_the_bounds_and_what_they_are() -> None:
    lower, upper = ASSESSMENT.advantages[None].lower, ASSESSMENT.advantages[None].upper
    bounds = f"({lower:+.3g} to {upper:+.3g}, each bound at 95 % confidence, 8 rows)"
    assert result_sentence(ASSESSMENT) == f"Test accuracy 0.875, champion 0.75: 0.125 better {bounds}."
    same = result_sentence(assessment_of(CHAMPION.model_copy(update={"scorer": "candidate"})))
    assert "champion 0.75: equal (" in same and same in page(assessment_of(CHAMPION))


def test_the_figure_names_verdict_scorers_slices_and_what_a_gate_asks_for() -> None:
    from tests.report.test_figures import texts

    words = texts(gate_figure(ASSESSMENT, title="toy: no $x", required=-0.02))
    shown = ("toy: no", "first (4)", "all rows (8)", "a gate asks for -0.02", "champion", "each one-sided at 95 % confidence")
    for part in shown:
        assert part in words
    assert "none (0)" not in words


def test_the_figure_draws_the_gates_own_bounds() -> None:
    _, right = gate_figure(ASSESSMENT).axes
    (result,) = ASSESSMENT.decision.results
    drawn = [tuple(line.get_xdata()) for line in right.lines]
    assert result.interval in drawn and (result.advantage,) in drawn


def test_a_page_of_almost_nothing_is_still_a_page() -> None:
    nothing = Decision(passed=False, outcome=Outcome.REJECTED, verdict="No gates, no promotion.")
    text = gate_page(dataclasses.replace(assessment_of(CANDIDATE, None), decision=nothing), PageDetails("toy"))
    assert "The spec sets no gate." in text and not Outline(text).open
    assert re.search(r"<title>toy: rejected</title>", text)


def test_the_page_of_a_first_version_compares_with_the_hard_prompt() -> None:
    text = page(assessment_of(CANDIDATE, None))
    assert "<h2>Answers that differ from the hard prompt's</h2>" in text and "<th>Hard prompt</th>" in text
