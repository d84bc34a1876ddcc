"""What CI systems read beside the exit code: a JUnit file, and the summary page of a GitHub job."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from softprompt_core.errors import InvalidInput, NoOutcome, Outcome

if TYPE_CHECKING:
    from softprompt_core.lifecycle.result import LifecycleResult

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"

_FAILURES = (Outcome.REJECTED,)
_SKIPPED = (Outcome.AWAITING_APPROVAL, NoOutcome.TRIGGERED)
_PASSED = (Outcome.PROMOTED, Outcome.UNCHANGED)  # a result of `unchanged` is judged by the version that it stands for
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def summary_file() -> Path:
    """Where GitHub wants a job's summary.

    Raises:
        InvalidInput: this is no GitHub job.
    """
    name = os.environ.get(SUMMARY_VARIABLE)
    if not name:
        raise InvalidInput(
            f"{SUMMARY_VARIABLE} is not set", where="--github-summary", do="GitHub sets it in a job; elsewhere let it name a file"
        )
    return Path(name)


def require_writable(path: Path, option: str) -> None:
    """Make the file's folder and open the file; a mistake is found before hours of training, not after.

    Raises:
        InvalidInput: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise InvalidInput(f"cannot be written: {error.strerror}", where=f"{option} {path}", do="name another file") from None


def write(path: Path, text: str, *, append: bool = False) -> None:
    """Write a report. Where the disk is full by now, that is told, and the outcomes stand."""
    try:
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        print(f"{path} could not be written: {error.strerror}", file=sys.stderr)


def junit(results: Sequence[LifecycleResult]) -> str:
    """JUnit XML, one test case a task: rejected is a failure with the gates' reasons, awaiting approval is skipped, promoted
    passes, unchanged is what it stands for, all else is an error."""
    suite = ElementTree.Element("testsuite", name="softprompt", tests=str(len(results)))
    counts = {"failure": 0, "error": 0, "skipped": 0}
    for result in results:
        case = ElementTree.SubElement(
            suite, "testcase", classname="softprompt", name=_xml(result.task), time=f"{result.seconds:.1f}"
        )
        text = _xml("\n".join([result.reason, *result.gates, *_links(result)]))
        kind = _junit_kind(result)
        if kind is None:
            ElementTree.SubElement(case, "system-out").text = text
            continue
        counts[kind] += 1
        first = _xml(f"{result.label}: {result.reason}".splitlines()[0])
        ElementTree.SubElement(case, kind, type=result.verdict.value, message=first).text = text
    for kind, attribute in {"failure": "failures", "error": "errors", "skipped": "skipped"}.items():
        suite.set(attribute, str(counts[kind]))
    suite.set("time", f"{sum(result.seconds for result in results):.1f}")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _junit_kind(result: LifecycleResult) -> str | None:
    if result.verdict in _PASSED:
        return None
    return "failure" if result.verdict in _FAILURES else "skipped" if result.verdict in _SKIPPED else "error"


def _xml(text: str) -> str:
    return _NOT_IN_XML.sub("�", text)


def github_summary(results: Sequence[LifecycleResult]) -> str:
    """Markdown: a table of all tasks, then reason and gates of each; folded where nobody needs to look."""
    from softprompt_core.markdown import markdown_table, number

    scorers = ("candidate", "champion", "hard_prompt", "majority")
    headings = ("", "task", "outcome", "version", "metric", *(scorer.replace("_", " ") for scorer in scorers), "links")
    rows = [
        (
            _MARKS.get(_junit_kind(result), "❌"),
            escape(result.task),
            result.label.replace("_", " "),
            f"v{result.version}" if result.version else "–",
            result.metric or "–",
            *(number(result.scores.get(scorer)) for scorer in scorers),
            " · ".join(f"[{name}]({url})" for name, url in _links_by_name(result).items()) or "–",
        )
        for result in results
    ]
    parts = ["### Soft prompts\n", markdown_table(headings, rows, numbers=(5, 6, 7, 8))]
    for result in results:
        words = escape("\n".join([result.reason, *result.gates]))
        shown = "" if _junit_kind(result) is None else " open"
        parts.append(f"<details{shown}><summary>{escape(result.task)}</summary>\n\n<pre>{words}</pre>\n</details>\n")
    return "\n".join(parts)


_MARKS = {None: "✅", "skipped": "⏸"}


def _links_by_name(result: LifecycleResult) -> dict[str, str]:
    return {name: url for name, url in {"MLflow": result.run_url, "Prefect": result.prefect_url}.items() if url}


def _links(result: LifecycleResult) -> list[str]:
    return list(_links_by_name(result).values())
