"""Change settings in a spec's text: comments, order and quotes stay as the user wrote them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.util import load_yaml_guess_indent

from softprompt_core.errors import SoftpromptError
from softprompt_core.spec.loading import load_spec, parse_spec
from softprompt_core.spec.models import PromptSpec
from softprompt_core.spec.yaml_text import MAX_CHARACTERS, read_yaml, to_yaml


def write_spec(source: Path | None, settings: Mapping[str, Any], spec: PromptSpec, file: Path) -> None:
    """Write ``spec`` to ``file``: the text of ``source`` with ``settings`` (dotted keys) changed in it.

    Where that text would not read as the same spec any more (there is no source, or the file lies in another folder and paths are
    relative), the spec is written out, with absolute paths and what is not at its default.
    """
    text = None
    if source is not None:
        # The round-trip loader reads keys as numbers and dates: it refuses `1` beside `0x1`, and impossible dates.
        with contextlib.suppress(SoftpromptError, YAMLError, ValueError):
            changed = _changed(source.read_text(encoding="utf-8"), settings)
            if parse_spec(read_yaml(changed, "spec").value, folder=file.parent) == spec:
                text = changed
    file.write_text(text or to_yaml(spec.model_dump(mode="json", exclude_defaults=True)), encoding="utf-8")
    assert load_spec(file) == spec


def _changed(text: str, settings: Mapping[str, Any]) -> str:
    yaml = YAML(pure=True)
    yaml.preserve_quotes = True
    yaml.width = MAX_CHARACTERS
    document, indent, before_dash = load_yaml_guess_indent(text, yaml=yaml)
    yaml.indent(mapping=before_dash or indent or 2, sequence=indent or 2, offset=before_dash or 0)
    for key, value in settings.items():
        _set(document, key.split("."), value)
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _set(document: CommentedMap, path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = document.get(part)
        if not isinstance(inner, CommentedMap):  # the short form of the base, an empty part, or none
            inner = _flow_map({"id": inner} if isinstance(inner, str) else {})
            document[part] = inner
        document = inner
    if isinstance(value, Mapping):
        value = _flow_map(value)
    if path[-1] in document or len(path) == 1 or document.fa.flow_style():
        document[path[-1]] = value
    else:  # in front: comments behind the last key belong to what follows
        document.insert(0, path[-1], value)


def _flow_map(values: Mapping[str, Any]) -> CommentedMap:
    mapping = CommentedMap(values)
    mapping.fa.set_flow_style()
    return mapping
