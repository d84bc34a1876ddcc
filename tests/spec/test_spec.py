"""The spec: every mistake is told with file, line and field; what is written means what it says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from softprompt_core.errors import InvalidInput
from softprompt_core.spec import load_spec, names_spec_file, parse_spec, spec_files
from softprompt_core.spec.gates import FACTS, metrics_of
from tests.spec.example import GOOD, plain

# In YAML's own order: what a user wrote, what the mistake makes of it, the line of the mistake, and the words about it.
MISTAKES = {
    "misspelt key": ("base_model: bundled", "base_modell: bundled", 2, r"unknown key `base_modell`; did you mean `base_model`\?"),
    "misspelt nested key": (
        "    column: label",
        "    colum: label",
        7,
        r"unknown key `data.target.colum`; did you mean `column`\?",
    ),
    "misspelt key in a gate": (
        "    slice: long\n    at_least",
        "    slice: long\n    at_leest",
        15,
        r"unknown key `gates.1.at_leest`; did you mean `at_least",
    ),
    "a key unlike any other": ("base_model: bundled", "zzz: 1", 2, r"unknown key `zzz`; known here: name, description"),
    "missing key": ('  input: "{text}"\n', "", 3, "`data.input` is missing"),
    "missing name": ("name: toy\n", "", 1, "`name` is missing"),
    "bad name": ("name: toy", "name: My Task", 1, "`name`: use lower case letters"),
    "wrong kind": ("at_least: 0.8", "at_least: high", 12, "`gates.0.at_least`: Input should be a valid number"),
    "word twice": ("{0: bad, 1: good}", "{0: bad, 1: bad}", 6, "two labels share the word 'bad'"),
    "one label": ("{0: bad, 1: good}", "{0: bad}", 6, "at least two labels"),
    "empty word": ("{0: bad, 1: good}", "{0: bad, 1: ' '}", 6, "a label's word is empty"),
    "attribute of a column": ('"{text}"', '"{text.__class__}"', 5, "`data.input`: .*only plain column names"),
    "item of a column": ('"{text}"', '"{text[0]}"', 5, "`data.input`: .*only plain column names"),
    "conversion": ('"{text}"', '"{text!r}"', 5, "`data.input`: .*only plain column names"),
    "empty braces": ('"{text}"', '"{}"', 5, "empty braces"),
    "open brace": ('"{text}"', '"{text"', 5, "cannot read the template"),
    "no column": ('"{text}"', '"text"', 5, "names no column"),
    "unknown slice": ("slice: long", "slice: lang", 13, "`gates.1`: names the slice 'lang'; slices under data.slices: long"),
    "threshold and comparison": (
        "at_least: 0.8",
        "{at_least: 0.8, versus: champion}",
        11,
        "do not go with `versus`; write two gates",
    ),
    "no condition": ("    at_least: 0.8\n", "", 11, "one of `at_least`, `at_most` and `versus`"),
    "margin alone": ("at_least: 0.8", "{at_least: 0.8, margin: 0.1}", 11, "go with `versus`"),
    "margin and advantage": ("at_least: 0.8", "{versus: champion, margin: 0.1, at_least_by: 0.1}", 11, "exclude each other"),
    "two sources": ("{files: {train: rows.csv}}", "{files: {train: rows.csv}, hub: a/b}", 4, "exactly one of `files` and `hub`"),
    "cron": ("base_model: bundled", 'schedule: {cron: "3 * *"}', 2, "must have five fields"),
    "time zone": ("base_model: bundled", 'schedule: {cron: "0 3 * * 1", timezone: Mars/Base}', 2, "unknown time zone"),
    "cron that names no time": ("base_model: bundled", 'schedule: {cron: "99 99 * * *"}', 2, "names no time"),
    "cron on no day": ("base_model: bundled", 'schedule: {cron: "0 0 31 2 *"}', 2, "'0 0 31 2 \\*' names no time"),
    "cron on no day of two months": ("base_model: bundled", 'schedule: {cron: "0 0 31 4,6 *"}', 2, "names no time"),
    "cron with a step of a last day": ("base_model: bundled", 'schedule: {cron: "0 0 * * 5L/2"}', 2, "names no time"),
    "misspelt time zone": (
        "base_model: bundled",
        'schedule: {cron: "0 3 * * 1", timezone: Europe/Berln}',
        2,
        r"unknown time zone 'Europe/Berln'; did you mean Europe/Berlin\?",
    ),
    "misspelt metric": (
        "metric: accuracy\n    at_least: 0.8",
        "metric: acuracy\n    at_least: 0.8",
        11,
        r"`gates.0`: `acuracy` is no metric of a classification task; did you mean `accuracy`\?",
    ),
    "misspelt label in a metric": (
        "metric: accuracy\n    at_least: 0.8",
        "metric: f1/godo\n    at_least: 0.8",
        11,
        r"`f1/godo` is no metric .* did you mean `f1/good`\?",
    ),
    "a label's value for its word": (
        "metric: accuracy\n    at_least: 0.8",
        "metric: f1/1\n    at_least: 0.8",
        11,
        "`f1/1` is no metric",
    ),
    "misspelt fact": (
        "metric: accuracy\n    at_least: 0.8",
        "metric: prompt_nrom\n    at_least: 0.8",
        11,
        r"did you mean `prompt_norm`\?",
    ),
    "metric of generation": (
        "metric: accuracy\n    at_least: 0.8",
        "metric: rougeL\n    at_least: 0.8",
        11,
        "`rougeL` is no metric of a classification task; known: accuracy",
    ),
    "loss of a constant answer": (
        "metric: accuracy\n    at_least: 0.8",
        "metric: loss\n    versus: majority",
        11,
        "has no `loss` to compare with",
    ),
    "nearly the slice": ("slice: long", "slice: lnog", 13, r"slices under data.slices: long; did you mean `long`\?"),
    "number for a word": ("{0: bad, 1: good}", "{0: 010, 1: good}", 8, "`data.target.labels.0`: is read as a number .* quotes"),
    "truth for a word": (
        "{0: bad, 1: good}",
        "{0: false, 1: good}",
        8,
        "`data.target.labels.0`: .* true or false; put it into quotes",
    ),
    "attribute of a dotted column": ('"{text}"', '"{a.b.__init__}"', 5, "only plain column names"),
    "text without init": ("base_model: bundled", "prompt: {text: some words}", 2, "`text` and `init: text` go together"),
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str, name: str = "toy.yaml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def mistaken(before: str, after: str) -> str:
    assert GOOD.count(before) == 1
    if after.startswith("{") and not before.startswith("{"):  # a whole gate in braces takes the place of its lines
        return GOOD.replace(f"- metric: accuracy\n    {before}", f"- {{metric: accuracy, {after[1:]}")
    return GOOD.replace(before, after)


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_with_file_line_and_field(write: Callable[[str], Path], case: str) -> None:
    before, after, line, words = MISTAKES[case]
    path = write(mistaken(before, after))
    with pytest.raises(InvalidInput, match=words) as refused:
        load_spec(path)
    assert refused.value.where == f"{path}:{line}"
    assert refused.value.do


def test_every_problem_is_listed_with_its_own_line(write: Callable[[str], Path]) -> None:
    path = write(GOOD.replace("base_model", "base_modell").replace("at_least: 0.8", "at_leest: 0.8"))
    with pytest.raises(InvalidInput) as refused:
        load_spec(path)
    assert f"{path}:2: unknown key `base_modell`" in str(refused.value)
    assert f"{path}:12: unknown key `gates.0.at_leest`" in str(refused.value)


@pytest.mark.parametrize(
    "text, line, words",
    [
        ("name: toy\ndata: {source: [\n", 3, "is not valid YAML"),
        ("name: toy\n data: x\n", 2, "is not valid YAML"),
        ("name: !!python/object/apply:os.getcwd []\n", 1, "is not valid YAML"),
        ("", None, "a spec is a mapping"),
        ("- name: toy\n", None, "a spec is a mapping"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_refused(write: Callable[[str], Path], text: str, line: int | None, words: str) -> None:
    path = write(text)
    with pytest.raises(InvalidInput, match=words) as refused:
        load_spec(path)
    assert refused.value.where == (f"{path}:{line}" if line else str(path))


def test_a_missing_file_a_folder_and_a_file_that_is_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00name")
    for path, words in (
        (tmp_path / "no.yaml", "no such spec file"),
        (tmp_path, "is a folder"),
        (tmp_path / "binary.yaml", "cannot be read"),
    ):
        with pytest.raises(InvalidInput, match=words) as refused:
            load_spec(path)
        assert refused.value.where == str(path)


def test_yes_no_on_and_off_stay_words(write: Callable[[str], Path]) -> None:
    spec = load_spec(write(GOOD.replace("{0: bad, 1: good}", "{0: no, 1: yes, on: on, off: off}")))
    assert spec.data.target.labels == {"0": "no", "1": "yes", "on": "on", "off": "off"}


def test_true_and_numbers_as_label_values_are_text(write: Callable[[str], Path]) -> None:
    labels = load_spec(write(GOOD.replace("{0: bad, 1: good}", "{true: right, 2: wrong}"))).data.target.labels
    assert labels == {"true": "right", "2": "wrong"}


def test_a_base_may_be_named_in_one_word(write: Callable[[str], Path]) -> None:
    short, long = load_spec(write(GOOD)), load_spec(write(GOOD.replace("bundled", "{id: bundled}")))
    assert short == long and short.base_model.id == "bundled"
    assert load_spec(write(GOOD.replace("base_model: bundled\n", ""))) == short


def test_paths_are_taken_from_the_spec_s_folder(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = GOOD.replace("bundled", "tiny").replace("train: rows.csv", "train: [rows.csv, /data/more.csv]")
    spec = load_spec(write(text + "prompt: {init: file, file: start.npy}\n"))
    assert spec.base_model.id == str(tmp_path / "tiny")
    assert spec.data.source.files is not None
    assert spec.data.source.files.train == (str(tmp_path / "rows.csv"), "/data/more.csv")
    assert spec.prompt.file == str(tmp_path / "start.npy")
    assert parse_spec(spec.model_dump(mode="json")) == spec


def test_metrics_of_labels_that_the_data_tell_are_left_to_the_data() -> None:
    value = plain(GOOD)
    del value["data"]["target"]["labels"]
    value["gates"] = [{"metric": "recall/anything", "at_least": 0.5}]
    assert parse_spec(value).gates[0].metric == "recall/anything"
    value["gates"] = [{"metric": "recal/anything", "at_least": 0.5}]
    with pytest.raises(InvalidInput, match=r"did you mean `recall/anything`\?"):
        parse_spec(value)


def test_every_metric_and_fact_by_its_own_name_is_taken() -> None:
    value = plain(GOOD)
    value["training"] = {"seeds": 2}
    value["gates"] = [{"metric": metric, "at_least": 0} for metric in (*metrics_of(("bad", "good")), *FACTS)]
    assert len(parse_spec(value).gates) == len(value["gates"])
    value["data"]["target"] = {"template": "{label}"}
    value["gates"] = [{"metric": metric, "at_least": 0} for metric in metrics_of(())]
    assert len(parse_spec(value).gates) == 5


@pytest.mark.parametrize("cron", ["0 3 * * 1", "*/5 0-23/2 1,15 jan-mar mon-fri", "0 0 29 2 *", "0 0 L * *", "0 0 31 2 1"])
def test_a_cron_that_comes_is_taken(cron: str) -> None:
    assert parse_spec({**plain(GOOD), "schedule": {"cron": cron}}).schedule is not None


def test_a_dot_belongs_to_a_column_s_name(write: Callable[[str], Path]) -> None:
    spec = load_spec(write(GOOD.replace('"{text}"', '"{reviews.text:>5} {a.b.c}"')))
    assert spec.data.columns() == ["reviews.text", "a.b.c", "label"]


def test_a_word_of_the_command_line_is_a_task_unless_it_can_only_be_a_file(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("toy.yaml", "toy"):
        write(GOOD, name)
    files = {"toy.yaml": True, "x.yaml": False, "toy": False, "./toy": True, "specs/x.yaml": True, str(tmp_path / "toy"): True}
    assert {word: names_spec_file(word) for word in files} == files


def test_a_spec_in_another_encoding_or_in_a_pipe_or_without_an_end_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_bytes(GOOD.encode("utf-16"))
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe4\n")
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, words in (
        (tmp_path / "wide.yaml", "cannot be read: is UTF-16, not UTF-8"),
        (tmp_path / "latin.yaml", "cannot be read: is not UTF-8"),
        (tmp_path / "pipe.yaml", "is a pipe or a device"),
        (Path("/dev/zero"), "has more than 1,000,000 characters"),
        (tmp_path / ("x" * 300), "cannot be read: .*too long"),
        (tmp_path / "\0", "cannot be read"),
    ):
        with pytest.raises(InvalidInput, match=words):
            load_spec(path)


def test_a_byte_order_mark_is_no_part_of_a_spec(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(GOOD, encoding="utf-8-sig")
    assert load_spec(tmp_path / "toy.yaml").name == "toy"


def test_a_message_is_cut_wherever_it_comes_from() -> None:
    error = InvalidInput("x" * 10**6 + "\nand more" * 10**4, where="y" * 10**5, do="z" * 10**5)
    assert len(str(error)) < 6000 and str(error).count("\n") < 70
    assert InvalidInput("short\nlines", where="a:1", do="b").args == ("a:1: short\nlines\n  → b",)


def test_a_hub_id_is_no_path(write: Callable[[str], Path]) -> None:
    assert load_spec(write(GOOD.replace("bundled", "{id: org/model}"))).base_model.id == "org/model"


def test_a_spec_is_frozen(write: Callable[[str], Path]) -> None:
    spec = load_spec(write(GOOD))
    with pytest.raises(ValidationError, match="frozen"):
        spec.prompt.length = 7  # type: ignore[misc]


def test_a_folder_gives_its_specs_by_name_and_an_empty_one_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no spec files"):
        spec_files(tmp_path)
    for name in ("b.yaml", "a.yml", "notes.txt"):
        write(GOOD, name)
    assert [path.name for path in spec_files(tmp_path)] == ["a.yml", "b.yaml"]
    with pytest.raises(InvalidInput, match="no such folder"):
        spec_files(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"gates": [{"metric": "accuracy", "at_least": 0.5, "slice": "*"}]},
            "`gates.0`: means every slice, and data.slices defines none",
        ),
        (
            {"gates": [{"metric": "seed_spread", "at_most": 0.5}]},
            "`gates.0`: `seed_spread` compares seeds; set training.seeds to 2",
        ),
        ({"slices": {"*": "len(text) > 9"}}, "cannot be a slice's name"),
    ],
)
def test_a_gate_that_could_never_be_met_is_refused(changes: dict[str, Any], words: str) -> None:
    value = plain(GOOD)
    value["data"]["slices"] = changes.get("slices", {})
    value["gates"] = changes.get("gates", [])
    with pytest.raises(InvalidInput) as refused:
        parse_spec(value)
    assert words in str(refused.value)
