"""Change settings in a spec's text: comments, order and everything else stay as the user wrote them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from softprompt_core.errors import SoftpromptError
from softprompt_core.spec.grid import nested, with_setting
from softprompt_core.spec.loading import Loader, load_spec, parse_spec
from softprompt_core.spec.models import PromptSpec


def write_spec(source: Path | None, settings: Mapping[str, Any], spec: PromptSpec, file: Path) -> None:
    """Write ``spec`` to ``file``: the text of ``source`` with ``settings`` (dotted keys) changed in it.

    Where that text would not read as the same spec any more (there is no source, or the file lies in another folder and paths are
    relative), the spec is written out, with absolute paths and what is not at its default.
    """
    if source is not None:
        text = source.read_text(encoding="utf-8")
        for key, value in settings.items():
            text = _changed(text, key, value)
        if _reads_as(spec, text, file.parent):
            file.write_text(text, encoding="utf-8")
            return
    written = spec.model_dump(mode="json", exclude_defaults=True)
    file.write_text(yaml.safe_dump(written, sort_keys=False, allow_unicode=True), encoding="utf-8")
    assert load_spec(file) == spec


def _reads_as(spec: PromptSpec, text: str, folder: Path) -> bool:
    try:
        return parse_spec(yaml.load(text, Loader=Loader), folder=folder) == spec
    except (yaml.YAMLError, SoftpromptError):
        return False


def _changed(text: str, key: str, value: Any) -> str:
    """One setting changed where it stands, or put in front of its neighbours."""
    node: Any = yaml.compose(text, Loader=Loader)
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, yaml.MappingNode):
            # The short form of the base, or an empty part: written anew from the part above.
            return _changed(text, ".".join(parts[:depth]), _whole(text, parts[:depth], parts[depth:], value))
        inner = next((child for name, child in node.value if name.value == part), None)
        if inner is None:
            return _with_new(text, node, nested({".".join(parts[depth:]): value}))
        node = inner
    if isinstance(node, yaml.ScalarNode) or node.flow_style:
        return text[: node.start_mark.index] + _flow(value) + text[node.end_mark.index :]
    # A block goes to the beginning of the next key, so its last line break and the comments behind it stay.
    block = text[node.start_mark.index : node.end_mark.index]
    return text[: node.start_mark.index] + _flow(value) + block[len(block.rstrip()) :] + text[node.end_mark.index :]


def _whole(text: str, above: list[str], below: list[str], value: Any) -> Any:
    here: Any = yaml.load(text, Loader=Loader)
    for part in above:
        here = here[part]
    outer = {above[-1]: here}
    return with_setting(outer, ".".join([above[-1], *below]), value)[above[-1]]


def _with_new(text: str, node: yaml.MappingNode, new: dict[str, Any]) -> str:
    at = node.start_mark.index
    ((key, value),) = new.items()
    if node.flow_style:
        more = ", " if node.value else ""
        return f"{text[: at + 1]}{key}: {_flow(value)}{more}{text[at + 1 :]}"
    if node.start_mark.column == 0:  # a part of its own, as the last
        return f"{text.rstrip()}\n{yaml.safe_dump(new, sort_keys=False, allow_unicode=True, default_flow_style=None)}"
    return f"{text[:at]}{key}: {_flow(value)}\n{' ' * node.start_mark.column}{text[at:]}"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
