"""``softprompt check``: specs before anything runs."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Json

if TYPE_CHECKING:
    from softprompt_core.operations.check import SpecCheck


def check(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC...", help="Spec files, or folders of them.", show_default=False)],
    base: Annotated[
        bool,
        typer.Option("--base", help="Load each base: do labels, texts and prompt fit it? Takes as long as the start of a run."),
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the data reports as one HTML page.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Check specs with their data, gates, schedules and bases; nothing is trained, and MLflow and Prefect are not asked.

    Exits 0 if all are valid, 40 if one is invalid, 50 if a base or data set cannot be reached.
    """
    from flows.cli.output import print_json, write_page
    from softprompt_core.operations.check import check_specs
    from softprompt_core.spec import spec_files

    files = [file for path in specs for file in (spec_files(path) if path.is_dir() else [path])]
    checked = check_specs(files, load_base=base)
    if html is not None:
        write_page(html, _page(checked))
    if json:
        print_json([each.model_dump(mode="json") for each in checked])
    else:
        for each in checked:
            print_check(each)
        bad = sum(each.exit_code != 0 for each in checked)
        print(f"{len(checked) - bad} of {len(checked)} valid" if bad or len(checked) > 1 else "valid")
        if not base and bad < len(checked):
            print("Not looked at: whether labels, texts and prompt fit the base (--base).", file=sys.stderr)
    raise typer.Exit(max((each.exit_code for each in checked), default=0))


def print_check(checked: SpecCheck) -> None:
    if checked.data is None:
        name = f" ({checked.task})" if checked.task else ""
        print(f"✗ {checked.file}{name}: {checked.outcome}\n  {checked.reason}")
        return
    print(f"✓ {checked.file}: {checked.task}: {_facts(checked)}")
    for warning in checked.data.warnings:
        print(f"  ! {warning}")


def _facts(checked: SpecCheck) -> str:
    rows = ", ".join(f"{split.rows} {name}" for name, split in (checked.data.splits if checked.data else {}).items())
    gates = f"{checked.gates} gate{'s' * (checked.gates != 1)}" if checked.gates else "no gates, so nothing is promoted"
    schedule = f"; next run {checked.next_run:%Y-%m-%d %H:%M %Z}" if checked.next_run else ""
    return f"{rows} rows; {gates}{schedule}; base {checked.base}"


def _page(checked: list[SpecCheck]) -> str:
    from softprompt_core.report.check_page import CheckedSpec, check_page

    specs = [CheckedSpec(c.file, c.task or "", str(c.outcome), c.reason, _facts(c), c.data) for c in checked]
    return check_page(specs, f"Made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `softprompt check --html`.")
