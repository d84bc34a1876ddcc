"""Read a spec from YAML; every complaint names file, line and field."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from softprompt_core.errors import InvalidInput, closest
from softprompt_core.spec.models import PromptSpec
from softprompt_core.spec.yaml_text import MAX_CHARACTERS, read_yaml, shortened
from softprompt_core.text_files import read_text

MAX_PROBLEMS = 20


def load_spec(path: str | Path) -> PromptSpec:
    """Read one YAML file. Relative paths in it are taken from its folder.

    Raises:
        InvalidInput: the file is missing, is not YAML, or breaks the schema; names file, line and field.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise InvalidInput(
            "is a folder, not a spec file", where=str(path), do="name one YAML file, or use `softprompt fleet DIR`"
        )
    text = read_text(path, "spec file", max_bytes=4 * MAX_CHARACTERS)
    document = read_yaml(text, str(path))
    return parse_spec(document.value, folder=path.parent, where=str(path), lines=document.lines)


def spec_files(folder: Path) -> list[Path]:
    """The YAML files of a folder, in the order of their names.

    Raises:
        InvalidInput: no such folder, or no spec in it.
    """
    if not folder.is_dir():
        raise InvalidInput("no such folder", where=str(folder), do="name a folder of spec files")
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    if not files:
        raise InvalidInput("holds no spec files (*.yaml)", where=str(folder), do="put one YAML file a task into it")
    return files


def load_each(files: Iterable[Path]) -> Iterator[tuple[Path, PromptSpec | Exception]]:
    """Each file with its spec, or with what is wrong: whatever one file does to the loader, the others are not to blame.

    The second of two specs with one name is wrong: they would overwrite each other's versions.
    """
    taken: dict[str, Path] = {}
    for file in files:
        try:
            spec = load_spec(file)
            if spec.name in taken:
                what = f"the name `{spec.name}` is taken by {taken[spec.name]}"
                raise InvalidInput(what, where=str(file), do="give every task its own name")
        except Exception as error:
            yield file, error
        else:
            taken[spec.name] = file
            yield file, spec


def names_spec_file(target: str) -> bool:
    """Whether a word of the command line means a spec file, not a task.

    A task may be called ``x.yaml``, and a folder may hold something that is called like a task. No task's name has a slash, so a
    path with one is always a file; without one it must be a YAML file that is there.
    """
    if os.path.dirname(target):
        return True
    return target.endswith((".yaml", ".yml")) and os.path.isfile(target)


def parse_spec(
    value: Any, *, folder: str | Path | None = None, where: str = "spec", lines: Mapping[tuple[str, ...], int] | None = None
) -> PromptSpec:
    """Make a ``PromptSpec`` of plain data (from YAML, JSON or Python).

    Args:
        value: the mapping.
        folder: relative file paths are taken from here.
        where: what to call the source in errors.
        lines: line number of each key path, for errors.

    Raises:
        InvalidInput: the mapping breaks the schema; every problem is listed.
    """
    if not isinstance(value, Mapping):
        raise InvalidInput(
            "a spec is a mapping with `name`, `data`, …", where=where, do="see `softprompt schema` or docs/reference/spec.md"
        )
    try:
        spec = PromptSpec.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        (location, problem), *others = [_explain(e, lines or {}, where) for e in errors[:MAX_PROBLEMS]]
        more = "".join(f"\n{other_location}: {other}" for other_location, other in others)
        if len(errors) > MAX_PROBLEMS:
            more += f"\n… and {len(errors) - MAX_PROBLEMS} more"
        do = "`softprompt schema` prints every key that a spec may have"
        raise InvalidInput(problem + more, where=location, do=do) from None
    return _with_absolute_paths(spec, Path(folder).resolve()) if folder is not None else spec


def json_schema() -> dict[str, Any]:
    """JSON Schema of a spec, for editors and CI."""
    # YAML keys of `labels` may look like numbers; to JSON Schema they are names all the same. Null stands for "left out".
    schema = PromptSpec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Soft-prompt spec"}


def _with_absolute_paths(spec: PromptSpec, folder: Path) -> PromptSpec:
    def absolute(path: str) -> str:
        return str(folder / os.path.expanduser(path))

    def is_folder(path: str) -> bool:
        return os.path.isdir(folder / path)

    source, prompt, base = spec.data.source, spec.prompt, spec.base_model
    if source.files is not None:
        files = {split: tuple(map(absolute, paths)) for split, paths in source.files if paths is not None}
        source = source.model_copy(update={"files": source.files.model_copy(update=files)})
    elif source.hub is not None and is_folder(source.hub):
        source = source.model_copy(update={"hub": absolute(source.hub)})
    if prompt.file is not None:
        prompt = prompt.model_copy(update={"file": absolute(prompt.file)})
    if base.id != "bundled" and (base.id.startswith((".", "~")) or is_folder(base.id)):
        base = base.model_copy(update={"id": absolute(base.id)})
    monitor = spec.monitor.model_copy(update={"data": tuple(map(absolute, spec.monitor.data))})
    data = spec.data.model_copy(update={"source": source})
    return spec.model_copy(update={"data": data, "prompt": prompt, "base_model": base, "monitor": monitor})


def _explain(error: Any, lines: Mapping[tuple[str, ...], int], where: str) -> tuple[str, str]:
    """File and line of one pydantic error, and a sentence about it."""
    path = tuple(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if not path and (item := re.match(r"(\w+)\[(\d+)\]: ", message)):
        # A check across parts of the spec has no path of its own, and begins with the entry that it is about.
        path, message = (item[1], item[2]), message[item.end() :]
    written = path
    while written and written not in lines:
        written = written[:-1]
    location = f"{where}:{lines[written]}" if written in lines else where
    # Union members and validators add parts to the path that the user never wrote.
    field = shortened(".".join(part for part in path if not part.startswith(("function-", "literal", "constrained"))) or "spec")
    if error["type"] == "extra_forbidden":
        names = _fields_at(path[:-1])
        close = closest(path[-1], names)
        hint = f"did you mean `{close}`?" if close else f"known here: {', '.join(names)}"
        return location, f"unknown key `{field}`; {hint}"
    if error["type"] == "missing":
        return location, f"`{field}` is missing"
    if error["type"] == "string_type" and isinstance(error["input"], (int, float)):  # `true` is one, too
        message = "is read as a number or as true or false; put it into quotes to mean the text"
    if error["type"] in ("model_type", "dict_type"):
        message = "must have keys of its own, on the lines below it"
    if error["type"] == "string_pattern_mismatch" and path == ("name",):
        message = "use lower case letters, digits, `_`, `.` and `-`, beginning with a letter or digit"
    return location, f"`{field}`: {shortened(message)}"


def _fields_at(path: tuple[str, ...]) -> list[str]:
    """Names of the keys that may stand at a key path of the spec."""
    model: type[BaseModel] | None = PromptSpec
    for part in path:
        if model is None or part.isdigit():
            continue
        field = model.model_fields.get(part)
        model = _model_in(field.annotation) if field is not None else None
    return list(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for argument in get_args(annotation) if (model := _model_in(argument))), None)
