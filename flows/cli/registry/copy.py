"""``softprompt registry copy``: promotion across environments."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.lifecycles import Reports, conclude
from flows.cli.options import By, GithubSummary, Json, Junit, Reason, Strict

if TYPE_CHECKING:
    from softprompt_core.lifecycle.result import LifecycleResult
    from softprompt_core.spec import PromptSpec
    from softprompt_core.store.connection import Store
    from softprompt_core.transfer.copy import Order
    from softprompt_core.transfer.snapshot import Snapshot


def copy(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME[@VERSION]|SPEC...",
            help="Tasks, if not the champion then with a number or alias; or spec files: their champions, if made from these.",
            show_default=False,
        ),
    ],
    source: Annotated[
        str, typer.Option("--from", metavar="PROFILE", help="Profile of the environment that has them.", show_default=False)
    ],
    by: By,
    reason: Reason,
    strict: Strict = False,
    junit: Junit = None,
    github_summary: GithubSummary = False,
    json: Json = False,
) -> None:
    """Promote versions of another environment here, without training: the very files, with their evidence.

    Fingerprints are checked before anything is written. Then the version's gates compare it with the champion here, on the stored
    answers where both gave theirs to the same rows, else everyone is scored again.

    Ends as `run` does, with the same exit codes: promoted and unchanged 0 (--strict: unchanged 10), rejected 20,
    awaiting_approval 30, invalid 40, unavailable 50; with several tasks the largest. Done again after a crash it goes on.
    """
    reports = Reports(json, strict, junit, github_summary)
    conclude(lambda: _copy_all(targets, source, by, reason), [Path(target) for target in targets], reports)


@dataclass(frozen=True)
class _Target:
    """What to copy. ``which``: a version's number or alias; ``spec``: from the file, if one was named."""

    name: str
    which: str
    spec: PromptSpec | None = None

    @classmethod
    def parse(cls, text: str) -> _Target:
        from softprompt_core.spec import load_spec, names_spec_file

        if names_spec_file(text):
            spec = load_spec(Path(text))
            return cls(spec.name, "champion", spec)
        name, _, which = text.partition("@")
        return cls(name, which or "champion")


def _copy_all(texts: list[str], source: str, by: str, reason: str) -> list[LifecycleResult]:
    from softprompt_core.store.connection import Store
    from softprompt_core.store.ledger import recording

    by, reason = recording.require_name(by, "--by"), recording.require_reason(reason, "--reason")
    targets = [_Target.parse(text) for text in texts]
    store = Store.connect()  # before anything is fetched
    from softprompt_core.transfer.copy import Order
    from softprompt_core.transfer.fetch import fetch_all

    order, work = Order(source, by, reason), store.home / "work"
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="copy-", dir=work) as folder:
        snapshots = fetch_all(source, [(target.name, target.which) for target in targets], Path(folder))
        return [_copy(store, target, snapshot, order) for target, snapshot in zip(targets, snapshots, strict=True)]


def _copy(store: Store, target: _Target, snapshot: Snapshot | Exception, order: Order) -> LifecycleResult:
    """Whatever happens becomes an outcome, so that one task never stops the others."""
    from softprompt_core.lifecycle.result import LifecycleResult
    from softprompt_core.lifecycle.run import outcome_of
    from softprompt_core.transfer.copy import copy as copy_version

    try:
        if isinstance(snapshot, Exception):
            raise snapshot
        return copy_version(store, snapshot, order, target.spec)
    except Exception as error:
        outcome, message = outcome_of(error)
        return LifecycleResult(task=target.name, outcome=outcome, reason=message)
