"""``softprompt init``: a first spec from a data file."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Json

if TYPE_CHECKING:
    from softprompt_core.operations.draft import TaskTable


def init(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="A data file, or a folder with train, validation and test in it.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The spec file. Default: NAME.yaml.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="The task's name. Default: the data's.", show_default=False)] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column with the answer. Default: found out.", show_default=False)
    ] = None,
    template: Annotated[
        str | None,
        typer.Option("--input", metavar="TEMPLATE", help="The input, as in '{title}: {text}'.", show_default=False),
    ] = None,
    base: Annotated[str, typer.Option(help="The base model: `bundled`, a folder, or a hub id.")] = "bundled",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the likeliest column.")] = False,
    json: Json = False,
) -> None:
    """Write a commented spec for a data file: columns, labels, splits, an input and gates. Checks it; overwrites nothing.

    Asks for the column with the answer where the data do not tell, in a terminal.
    """
    from flows.cli.check import print_check
    from flows.cli.output import print_json, write_page
    from softprompt_core.errors import InvalidInput
    from softprompt_core.operations import draft
    from softprompt_core.operations.check import check_specs
    from softprompt_core.spec.data import template_fields

    table = draft.read_table(data)
    name = name or re.sub(r"[^\w.-]+", "-", data.absolute().name.partition(".")[0]).strip("-") or "task"
    file = output or Path(f"{name}.yaml")
    if file.exists():
        raise InvalidInput("is there already", where=str(file), do="name another file with --output")
    if target is None:
        target = _target(table, ask=not yes and not json and sys.stdin.isatty(), may_guess=yes)
    draft.check_columns(table, [target], "--target")
    if template is None:
        columns = draft.input_columns(table, target)
        template = f"{{{columns[0]}}}" if len(columns) == 1 else "\n".join(f"{column}: {{{column}}}" for column in columns)
    try:
        draft.check_columns(table, template_fields(template), "--input")
    except ValueError as error:
        raise InvalidInput(str(error), where="--input", do="write the columns in braces, as in '{text}'") from None
    write_page(file, draft.draft(table, name=name, target=target, template=template, base=base, folder=file.parent))
    (checked,) = check_specs([file])
    if json:
        print_json(checked.model_dump(mode="json"))
    else:
        print_check(checked)
        then = f"softprompt run {file}" if checked.exit_code == 0 else f"softprompt check {file}"
        print(f"Written: {file}. Read it over{', mend it' if checked.exit_code else ''}, then: {then}")
    raise typer.Exit(checked.exit_code)


def _target(table: TaskTable, *, ask: bool, may_guess: bool) -> str:
    """The column with the answer. Raises InvalidInput where the data do not tell and nobody can be asked."""
    from softprompt_core.errors import InvalidInput
    from softprompt_core.operations.draft import answer_candidates

    candidates = answer_candidates(table)
    if len(candidates) == 1 or (candidates and may_guess):
        return candidates[0]
    if ask:
        print(f"Columns: {', '.join(table.cells)}", file=sys.stderr)
        return str(typer.prompt("Which holds the answer?", default=candidates[0] if candidates else None, err=True))
    which = f"it may be {', '.join(f'`{c}`' for c in candidates)}" if candidates else "none looks like one"
    raise InvalidInput(f"the data do not tell which column holds the answer: {which}", where="--target", do="name it")
