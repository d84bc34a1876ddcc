"""The gate report: what it shows first, that nobody's words become markup, and which rows it calls worse."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from softprompt_core.data import DataChanges, SplitChange
from softprompt_core.errors import Outcome
from softprompt_core.evaluation import Predictions
from softprompt_core.gates import Decision, GateResult
from softprompt_core.report import GatePage, advantage, changed_answers, gate_figure, gate_page, interval, learning_curve

EVIL = "<script>alert('x')</script> & \"quoted\" <b>|</b>"
FAILED = GateResult("accuracy no worse than the champion", "failed", "0.1 worse", 0.8, 0.9, 0.0, 10, (-0.2, 0.0), advantage=-0.1)
DECISION = Decision(False, Outcome.REJECTED, "1 of 1 gate failed.", (FAILED,))


def answers(scorer: str, predicted: str, gold: str = "aaaabbbb") -> Predictions:
    rows = len(gold)
    slices = {"first": (True,) * 4 + (False,) * (rows - 4), "none": (False,) * rows}
    return Predictions(
        scorer, tuple(f"test/{i}" for i in range(rows)), tuple(gold), tuple(predicted), (0.5,) * rows, slices, ("a", "b")
    )


CHAMPION, CANDIDATE = answers("champion", "aaaabbaa"), answers("candidate", "abaabbbb")


def page(**changes: object) -> str:
    content = GatePage(
        task="toy",
        version=7,
        decision=DECISION,
        metrics={"accuracy": {"candidate": 0.8, "champion": 0.9}},
        slices={"first": {"candidate": 0.75, "champion": 1.0}},
        slice_rows={"first": 4},
        changed=changed_answers(CHAMPION, CANDIDATE, {f"test/{i}": f"text {i}" for i in range(8)}),
        comparison=gate_figure(
            {"candidate": CANDIDATE, "champion": CHAMPION}, metric="accuracy", reference="champion", title="t"
        ),
        curve=learning_curve([{"step": 1, "loss": 1.0}]),
        data=DataChanges((SplitChange("train", 60, 62, 3, 1, 18),), {"a": (0.5, 0.75)}),
        tokens=[("0", ["film 0.91"], 0.5)],
        links={"MLflow run": "http://host/#/run", "Prefect run": "javascript:alert(1)"},
    )
    return gate_page(dataclasses.replace(content, **changes))  # type: ignore[arg-type]


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
    assert outline.headings[:2] == ["toy version 7: rejected", "Why: the gates"]
    assert outline.headings[2:] == [
        "Candidate and the others, with 95 % intervals",
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
    assert len(images) == 2 and all(source.startswith("data:image/svg+xml;base64,") for source in images)
    # Only web addresses become links; another scheme could run something.
    assert [attributes["href"] for tag, attributes in tags if tag == "a"] == ["http://host/#/run"]


def test_other_peoples_words_never_become_markup() -> None:
    evil = answers("champion", "aaaabbaa")
    evil = dataclasses.replace(
        evil, ids=(EVIL, *evil.ids[1:]), gold=(EVIL, *evil.gold[1:]), predicted=(EVIL, *evil.predicted[1:])
    )
    other = dataclasses.replace(evil, scorer="candidate", predicted=(EVIL + "2", *evil.predicted[1:]))
    gate = GateResult(EVIL, "failed", EVIL, slice=EVIL)
    text = page(
        task=EVIL,
        decision=Decision(False, Outcome.REJECTED, EVIL, (gate, dataclasses.replace(gate, parts=(gate,)))),
        metrics={EVIL: {"candidate": 1.0, EVIL: 0.5}},
        slices={EVIL: {"candidate": 1.0}},
        slice_rows={EVIL: 3},
        changed=changed_answers(evil, other, {EVIL: EVIL}),
        data=DataChanges((SplitChange(EVIL, 1, 1, None, None, None),), {EVIL: (1.0, 1.0)}),
        data_note=EVIL,
        summary=EVIL,
        notes=[EVIL],
        tokens=[(EVIL, [EVIL], None)],
        links={EVIL: f"http://host/{EVIL}"},
        facts={EVIL: EVIL},
        seeds=[[EVIL], [EVIL]],
    )
    known = {tag for tag, _ in Outline(page()).tags} | {"ul", "li"}
    assert {tag for tag, _ in Outline(text).tags} <= known and "<script" not in text
    assert "<b>|" not in text


def test_worse_answers_stand_before_better_ones() -> None:
    changed = changed_answers(CHAMPION, CANDIDATE, {"test/1": "a text"})
    assert [(row.kind, row.id, row.before, row.after) for row in changed.rows] == [
        ("worse", "test/1", "a", "b"),
        ("better", "test/6", "a", "b"),
        ("better", "test/7", "a", "b"),
    ]
    assert changed.rows[0].input == "a text" and str(changed) == "3 of 8 test answers changed: 1 worse, 2 better"
    assert str(changed_answers(CHAMPION, CHAMPION, {})) == "all 8 test answers are the same"


def test_generated_texts_are_ordered_by_how_much_they_lost() -> None:
    gold = ("the cat sat down", "a b c", "x y")
    before = Predictions("champion", ("0", "1", "2"), gold, ("the cat sat", "a b", "z"), (1.0,) * 3, {}, ())
    after = Predictions("candidate", ("0", "1", "2"), gold, ("the cat", "nothing", "x y"), (1.0,) * 3, {}, ())
    assert [(row.id, row.kind) for row in changed_answers(before, after, {}).rows] == [
        ("1", "worse"),
        ("0", "worse"),
        ("2", "better"),
    ]


def test_answers_to_other_rows_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same rows"):
        changed_answers(CHAMPION, answers("candidate", "aaaa", "aaaa"), {})


def test_long_lists_and_texts_are_cut_and_say_so() -> None:
    gold = "a" * 200
    changed = changed_answers(answers("champion", gold, gold), answers("candidate", "b" * 200, gold), {"test/0": "x" * 5000})
    text = page(changed=changed)
    assert "180 more are in evaluation/examples.json" in text and "x" * 401 not in text


def test_intervals_hold_the_value_and_a_scorer_is_never_ahead_of_itself() -> None:
    found = advantage(CANDIDATE, CHAMPION, "accuracy")
    assert found is not None and found[1] <= found[0] <= found[2]
    assert found[0] == pytest.approx(1 / 8)
    assert advantage(CHAMPION, CHAMPION, "accuracy") == (0.0, 0.0, 0.0)
    assert advantage(CANDIDATE, CHAMPION, "accuracy", slice="none") is None and interval(CANDIDATE, "no such metric") is None


def test_a_lower_loss_is_an_advantage() -> None:
    better = dataclasses.replace(CANDIDATE, loss=(0.1,) * 8)
    found = advantage(better, CHAMPION, "loss")
    assert found is not None and found[0] == pytest.approx(0.4)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator, covered = np.random.default_rng(0), 0
    for _ in range(60):
        right = generator.random(150) < 0.8
        predicted = "".join("a" if hit else "b" for hit in right)
        found = interval(answers("candidate", predicted, "a" * 150), "accuracy")
        assert found is not None
        covered += found[1] <= 0.8 <= found[2]
    assert covered >= 51  # 57 of 60 expected


def test_the_figure_names_verdict_scorers_slices_and_what_a_gate_asks_for() -> None:
    from tests.report.test_figures import texts

    scorers = {"candidate": CANDIDATE, "champion": CHAMPION}
    figure = gate_figure(scorers, metric="accuracy", reference="champion", title="toy: no $x", required=-0.02)
    found = texts(figure)
    for words in ("toy: no", "first (4)", "all rows (8)", "a gate asks for -0.02", "champion"):
        assert words in found
    assert "none (0)" not in found
    assert len(gate_figure(scorers, metric="accuracy", reference=None, title="").axes) == 1


def test_a_page_of_almost_nothing_is_still_a_page() -> None:
    text = gate_page(GatePage("toy", None, Decision(False, Outcome.REJECTED, "No gates, no promotion.")))
    assert "The spec sets no gate." in text and not Outline(text).open
    assert re.search(r"<title>toy: rejected</title>", text)
