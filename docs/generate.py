"""Write the reference pages from the code: `python docs/generate.py`, or `--check` to fail when one of them is stale."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from flows.cli.app import app
from softprompt_core.errors import Health, NoOutcome, Outcome, Validity
from softprompt_core.markdown import markdown_table
from softprompt_core.spec import json_schema

REFERENCE = Path(__file__).parent / "reference"
SCHEMA = "spec.schema.json"
HEADER = "<!-- Made by `make docs` from the code; changes by hand are lost. -->\n\n"

MEANINGS = {
    Outcome.PROMOTED: "A new version is champion.",
    Outcome.UNCHANGED: "Same fingerprint as the last decided version, which it stands for: nothing was trained. "
    "Promoted 0 (10 with `--strict`), rejected 20, awaiting approval 30.",
    Outcome.REJECTED: "Trained and registered, but a gate said no; the champion stays.",
    Outcome.AWAITING_APPROVAL: "The gates passed; a person must approve.",
    Outcome.INVALID: "The spec or the data is wrong; nothing was trained or changed.",
    Outcome.DIVERGED: "Training produced no finite prompt.",
    Outcome.UNAVAILABLE: "MLflow, Prefect or the base model cannot be reached, or something else broke (traceback on stderr).",
    NoOutcome.TRIGGERED: "The run was started, and without `--wait` nobody looks how it ends.",
    NoOutcome.CANCELLED: "Somebody cancelled the run, or Prefect did because another run of the task was under way.",
    NoOutcome.TIMED_OUT: "`--timeout` ran out; the run goes on.",
    NoOutcome.INTERRUPTED: "A signal ended the command: SIGINT 130, SIGTERM 143, SIGHUP 129. Run again, it continues.",
    Health.HEALTHY: "New rows show no drop; without labels, inputs and answers look like those of the training.",
    Health.DEGRADED: "The headline metric has surely fallen by more than `monitor.margin`.",
    Health.UNKNOWN: "Too few or unusable rows, shifted inputs without labels, or no champion.",
    Validity.HOLDS: "Trained on this very base, or its vectors pass the task's gates on it.",
    Validity.FAILS: "Its vectors do not pass the gates on the base.",
    Validity.CANNOT: "It cannot be tried there: vectors of another width, no gates, or data or base that cannot be read.",
}


def code(value: object) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return markdown_table(headings, rows).rstrip()


# -- softprompt schema ----------------------------------------------------------------------------------------------------


def spec_page(schema: Mapping[str, Any]) -> str:
    """One section a part of the spec, one row a key; parts in the order in which a reader meets them."""
    introduction = (
        "# The spec\n\nOne YAML file a task. Other keys are refused. `softprompt schema` prints the same as JSON Schema; "
        f"editors can read it from [{SCHEMA}]({SCHEMA})."
    )
    return "\n\n".join([introduction, *_parts(schema, schema["$defs"], "")])


def _parts(part: Mapping[str, Any], parts: Mapping[str, Any], path: str) -> Iterator[str]:
    title = f"## `{path}`\n\n" if path else ""
    required = part.get("required", [])
    rows = []
    nested = []
    for key, field in part["properties"].items():
        inside = _reference(field)
        default = "required" if key in required else _default(field)
        # pydantic leaves a description out where it repeats the part's own.
        meaning = field.get("description") or parts[inside]["description"] if inside else field.get("description", "")
        rows.append((code(key), _type(field), default, meaning))
        if inside:
            nested.append((f"{path}.{key}".lstrip(".") + ("[]" if _is_list(field) else ""), parts[inside]))
    yield f"{title}{part.get('description', '')}\n\n" + table(("Key", "Type", "Default", "Meaning"), rows)
    for name, inner in nested:
        yield from _parts(inner, parts, name)


def _branches(field: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [branch for branch in field.get("anyOf", [field]) if branch.get("type") != "null"]


def _is_list(field: Mapping[str, Any]) -> bool:
    return any(branch.get("type") == "array" for branch in _branches(field))


def _reference(field: Mapping[str, Any]) -> str | None:
    """Name of the part that a field holds, if it holds one."""
    for branch in _branches(field):
        target = branch.get("$ref") or branch.get("items", {}).get("$ref")
        if target:
            return str(target).removeprefix("#/$defs/")
    return None


def _type(field: Mapping[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_branch_type(branch) for branch in _branches(field)))


def _branch_type(branch: Mapping[str, Any]) -> str:
    if "$ref" in branch:
        return "mapping"
    if "const" in branch:
        return code(branch["const"])
    if "enum" in branch:
        return ", ".join(code(value) for value in branch["enum"])
    kind = branch.get("type")
    if kind == "array":
        return f"list of {_type(branch.get('items', {}))}"
    if kind == "object":
        return f"mapping of text to {_type(branch.get('additionalProperties', {}))}"
    name = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}.get(str(kind), str(kind))
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {branch[key]}" for key, sign in signs.items() if key in branch]
    if "pattern" in branch:
        limits.append(f"matches {code(branch['pattern'])}")
    return " ".join([name, *([f"({', '.join(limits)})"] if limits else [])])


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    return "" if value in (None, "", [], {}) or isinstance(value, dict) else code(value)


# -- softprompt --help ----------------------------------------------------------------------------------------------------


def commands_page(command: Any, program: str = "softprompt") -> str:
    """Every visible command with its arguments and options, in the words that ``--help`` shows.

    Args:
        command: what ``typer.main.get_command`` returns. Typer brings its own copy of click, so no class of click's is named.
    """
    commands = list(_commands(command, program))
    contents = "\n".join(f"- [`{name}`](#{name.replace(' ', '-')}): {_summary(inner)}" for name, inner in commands)
    return "\n\n".join(["# The command line", contents, *(_section(inner, name) for name, inner in commands)])


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for key, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from _commands(inner, f"{name} {key}")


def _help(command: Any) -> str:
    # \f ends what --help shows; \b keeps its line breaks.
    return inspect.cleandoc(command.help or "").partition("\f")[0].replace("\b\n", "").strip()


def _summary(command: Any) -> str:
    return " ".join(_help(command).partition("\n\n")[0].split())


def _section(command: Any, name: str) -> str:
    context = typer.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    rows: dict[str, list[tuple[str, ...]]] = {"argument": [], "option": []}
    for p in command.params:
        if not p.hidden:
            names = _names(p) if p.param_type_name == "option" else code(p.display_name_raw)
            rows[p.param_type_name].append((names, _parameter_type(p, context), _parameter_default(p), p.help or ""))
    tables = [table((kind.capitalize(), "Type", "Default", "Meaning"), lines) for kind, lines in rows.items() if lines]
    return "\n\n".join([f"## `{name}`", _help(command), f"```console\n$ {usage}\n```", *tables])


def _names(option: Any) -> str:
    return " / ".join(", ".join(code(name) for name in names) for names in (option.opts, option.secondary_opts) if names)


def _parameter_type(parameter: Any, context: typer.Context) -> str:
    if getattr(parameter, "is_flag", False):
        return "flag"
    limits = [f"{sign} {limit}" for sign, limit in (("≥", parameter.min), ("≤", parameter.max)) if limit is not None]
    return code(parameter.display_type(context).strip("<>")) + (f" ({', '.join(limits)})" if limits else "")


def _parameter_default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    value = getattr(parameter.default, "value", parameter.default)  # an Enum's member stands as users write it
    if not parameter.show_default or callable(value) or value in (None, "", (), []):
        return ""
    if getattr(parameter, "is_flag", False):  # on or off: the name that says so; a flag without an opposite is off
        names = parameter.opts if value else parameter.secondary_opts
        return code(names[0]) if names else ""
    return code(", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))


# -- outcomes -------------------------------------------------------------------------------------------------------------


def outcomes_page() -> str:
    return "\n\n".join(
        [
            "# Outcomes and exit codes",
            "Every lifecycle ends in exactly one outcome. The Prefect state's name, the MLflow run's tag `softprompt.outcome`, "
            "the command's last line and `--json` all say the same one.",
            _codes("Outcome", Outcome),
            "A dry run (`--dry-run`) ends in the outcome that it would have been, with its exit code; state and last line say "
            "`Dry run: …`.",
            "## Of a run that is followed from elsewhere\n\n`softprompt run --deployment` ([ci](../ci.md)) can also end so. No "
            "lifecycle does.",
            _codes("`softprompt run --deployment`", NoOutcome),
            "## After a lifecycle\n\nTwo commands look at champions and change nothing about them "
            "([monitoring](../monitoring.md)). "
            "With several tasks the largest code counts; 40 and 50 mean what they mean above.",
            _codes("`softprompt monitor`", Health),
            _codes("`softprompt revalidate`", Validity),
        ]
    )


def _codes(heading: str, endings: Iterable[Outcome | NoOutcome | Health | Validity]) -> str:
    own: dict[object, str] = {Outcome.UNCHANGED: "0, 20 or 30"}
    rows = [(code(ending.value), own.get(ending, str(ending.exit_code)), MEANINGS[ending]) for ending in endings]
    return table((heading, "Exit", "Meaning"), rows)


def pages() -> dict[str, str]:
    """File name → text of every file in docs/reference."""
    schema = json_schema()
    texts = {
        "commands.md": commands_page(typer.main.get_command(app)),
        "outcomes.md": outcomes_page(),
        "spec.md": spec_page(schema),
    }
    # JSON has no comments, so the schema goes without the header.
    schema_text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return {**{name: HEADER + text.strip() + "\n" for name, text in texts.items()}, SCHEMA: schema_text}


def stale(folder: Path, pages: Mapping[str, str]) -> list[str]:
    """Names of pages that are missing, differ, or stand in the folder without being made here."""
    present = {path.name: path.read_text(encoding="utf-8") for kind in ("md", "json") for path in folder.glob(f"*.{kind}")}
    return sorted(name for name in present.keys() | pages.keys() if present.get(name) != pages.get(name))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is stale")
    check = parser.parse_args(arguments).check
    texts = pages()
    changed = stale(REFERENCE, texts)
    if check:
        for name in changed:
            print(f"docs/reference/{name}: stale\n  → run `make docs`", file=sys.stderr)
        return int(bool(changed))
    REFERENCE.mkdir(exist_ok=True)
    for name in changed:
        if name in texts:
            (REFERENCE / name).write_text(texts[name], encoding="utf-8", newline="\n")
        else:
            (REFERENCE / name).unlink()
        print(f"docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
