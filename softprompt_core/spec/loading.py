"""Read a spec from YAML; every complaint names file, line and field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from softprompt_core.errors import InvalidInput
from softprompt_core.spec.models import PromptSpec


class Loader(yaml.SafeLoader):
    """YAML 1.2 booleans: only true and false. In YAML 1.1 a label called `yes`, `no`, `on` or `off` becomes a boolean."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def load_spec(path: str | Path) -> PromptSpec:
    """Read one YAML file. Relative paths in it are taken from its folder.

    Raises:
        InvalidInput: the file is missing, is not YAML, or breaks the schema; names file, line and field.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidInput(
            "is a folder, not a spec file", where=str(path), do="name one YAML file, or use `softprompt fleet DIR`"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInput("no such spec file", where=str(path), do="check the path; a spec is one YAML file a task") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot be read: {error}", where=str(path), do="a spec is a UTF-8 YAML file") from None
    try:
        node = yaml.compose(text, Loader=Loader)
        lines = _lines(node) if node is not None else {}
        value = yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise InvalidInput(f"is not valid YAML: {problem}", where=where, do="check indentation, colons and quotes") from None
    return parse_spec(value, folder=path.parent, where=str(path), lines=lines)


def spec_files(folder: Path) -> list[Path]:
    """The YAML files of a folder, in the order of their names.

    Raises:
        InvalidInput: no such folder, or no spec in it.
    """
    if not folder.is_dir():
        raise InvalidInput("no such folder", where=str(folder), do="name a folder of spec files")
    found = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    if not found:
        raise InvalidInput("holds no spec files (*.yaml)", where=str(folder), do="put one YAML file a task into it")
    return found


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
        problems = [_explain(e, lines or {}, where) for e in error.errors()]
        first, rest = problems[0], problems[1:]
        more = "".join(f"\n{w}: {what}" for w, what in rest)
        raise InvalidInput(
            first[1] + more, where=first[0], do="`softprompt schema` prints every key that a spec may have"
        ) from None
    return _absolute(spec, Path(folder).resolve()) if folder is not None else spec


def json_schema() -> dict[str, Any]:
    """JSON Schema of a spec, for editors and CI."""
    schema = PromptSpec.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Soft-prompt spec"}
    # The loader takes `base_model: bundled` as short for `{id: bundled}`, and one string where a list of files may stand.
    base = schema["properties"]["base_model"]
    schema["properties"]["base_model"] = {
        "anyOf": [{"type": "string"}, {"$ref": base.get("$ref", "#/$defs/BaseModelSpec")}],
        **{k: v for k, v in base.items() if k != "$ref"},
    }
    fresh = schema["$defs"]["MonitorSpec"]["properties"]["data"]
    for split in (*schema["$defs"]["FilesSource"]["properties"].values(), fresh):
        split["anyOf"] = [{"type": "string"}, *split.pop("anyOf", [{"type": "array", "items": {"type": "string"}}])]
        split.pop("type", None)
        split.pop("items", None)
    # YAML keys of `labels` may be numbers; JSON Schema sees them as names already. Null stands for "left out".
    return schema


def _absolute(spec: PromptSpec, folder: Path) -> PromptSpec:
    def absolute(written: str) -> str:
        return str(folder / Path(written).expanduser())

    data, prompt, base = spec.data, spec.prompt, spec.base_model
    if data.source.files is not None:
        files = {s: tuple(absolute(f) for f in given) for s, given in data.source.files if given is not None}
        source = data.source.model_copy(update={"files": data.source.files.model_copy(update=files)})
        data = data.model_copy(update={"source": source})
    elif data.source.hub is not None and (folder / data.source.hub).is_dir():
        data = data.model_copy(update={"source": data.source.model_copy(update={"hub": absolute(data.source.hub)})})
    if prompt.file is not None:
        prompt = prompt.model_copy(update={"file": absolute(prompt.file)})
    if base.id != "bundled" and (base.id.startswith((".", "~")) or (folder / base.id).is_dir()):
        base = base.model_copy(update={"id": absolute(base.id)})
    monitor = spec.monitor.model_copy(update={"data": tuple(absolute(f) for f in spec.monitor.data)})
    return spec.model_copy(update={"data": data, "prompt": prompt, "base_model": base, "monitor": monitor})


def _lines(node: yaml.Node, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    """Line number (from 1) of each key path of a composed YAML document."""
    found = {path: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            below = (*path, str(key.value))
            found |= _lines(child, below)
            found[below] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            found |= _lines(child, (*path, str(index)))
    return found


def _explain(error: Any, lines: Mapping[tuple[str, ...], int], where: str) -> tuple[str, str]:
    """One pydantic error as (place, sentence)."""
    path = tuple(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if not path and (item := re.match(r"(\w+)\[(\d+)\]: ", message)):
        # A check across parts of the spec has no place of its own, and begins with the entry that it is about.
        path, message = (item[1], item[2]), message[item.end() :]
    known = path
    while known and known not in lines:
        known = known[:-1]
    place = f"{where}:{lines[known]}" if known in lines else where
    # Union members and validators add parts to the path that the user never wrote.
    field = ".".join(p for p in path if not p.startswith(("function-", "literal", "constrained"))) or "spec"
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(path[-1], _fields_at(path[:-1]), n=1, cutoff=0.5)
        hint = f"; did you mean `{close[0]}`?" if close else f"; known here: {', '.join(_fields_at(path[:-1]))}"
        return place, f"unknown key `{field}`{hint}"
    if error["type"] == "missing":
        return place, f"`{field}` is missing"
    if error["type"] == "string_pattern_mismatch" and path == ("name",):
        message = "use lower case letters, digits, `_`, `.` and `-`, beginning with a letter or digit"
    return place, f"`{field}`: {message}"


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
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
