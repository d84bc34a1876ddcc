"""``softprompt registry copy``: promotion across environments."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.deciding import By, Reason
from flows.cli.running import Json, Junit, Strict, Summary, conclude

if TYPE_CHECKING:
    from softprompt_core.spec import PromptSpec
    from softprompt_core.stages.bundle import Bundle
    from softprompt_core.stages.copying import Order
    from softprompt_core.stages.result import LifecycleResult


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
    github_summary: Summary = False,
    json: Json = False,
) -> None:
    """Promote versions of another environment here, without training: the very files, with their evidence.

    Fingerprints are checked before anything is written. Then the version's gates compare it with the champion here, on the stored
    answers where both gave theirs to the same rows, else everyone is scored again.

    Ends as `run` does, with the same exit codes: promoted and unchanged 0 (--strict: unchanged 10), rejected 20,
    awaiting_approval 30, invalid 40, unavailable 50; with several tasks the largest. Done again after a crash it goes on.
    """

    def here() -> list[LifecycleResult]:
        return _copied(targets, source, by, reason)

    conclude(
        here,
        [Path(target) for target in targets],
        strict=strict,
        json=json,
        junit=junit,
        github_summary=github_summary,
    )


def _copied(targets: list[str], source: str, by: str, reason: str) -> list[LifecycleResult]:
    import tempfile

    from softprompt_core import registry
    from softprompt_core.stages import record
    from softprompt_core.stages.workspace import home

    order = (source, registry.named(by, "--by"), registry.explained(reason, "--reason"))
    wanted = [_wanted(target) for target in targets]
    record.client()  # before anything is fetched
    from softprompt_core.stages.copying import Order
    from softprompt_core.stages.fetching import fetch_all

    work = home() / "work"
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="copy-", dir=work) as place:
        found = fetch_all(source, [(name, which) for name, which, _ in wanted], Path(place))
        return [_one(name, one, spec, Order(*order)) for (name, _, spec), one in zip(wanted, found, strict=True)]


def _wanted(target: str) -> tuple[str, str, PromptSpec | None]:
    """Task, version number or alias, and the spec if its file was named."""
    from softprompt_core.spec import load_spec

    if target.endswith((".yaml", ".yml")):
        spec = load_spec(Path(target))
        return spec.name, "champion", spec
    name, _, which = target.partition("@")
    return name, which or "champion", None


def _one(name: str, found: Bundle | Exception, spec: PromptSpec | None, order: Order) -> LifecycleResult:
    """Whatever happens becomes an outcome, so that one task never stops the others."""
    from softprompt_core.errors import Outcome, SoftpromptError
    from softprompt_core.stages.copying import copy as copy_version
    from softprompt_core.stages.result import LifecycleResult

    try:
        if isinstance(found, Exception):
            raise found
        return copy_version(found, order, spec)
    except SoftpromptError as error:
        return LifecycleResult(name, error.outcome, str(error))
    except Exception as error:
        traceback.print_exc()  # nobody can act on it without
        first = (str(error).strip() or "no message").splitlines()[0]
        return LifecycleResult(name, Outcome.UNAVAILABLE, f"{type(error).__name__}: {first} (traceback on stderr)")
