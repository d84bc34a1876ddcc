"""YAML text as plain data and back. In reading, keys are text as written, and the line of every key is kept for messages."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import RoundTripRepresenter

from softprompt_core.errors import InvalidInput

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 40
MAX_VALUES = 20_000
MAX_MESSAGE = 300

_DO = "check indentation, colons and quotes"
_TAG = "tag:yaml.org,2002:"
_RARE_BREAK = re.compile("[\x85\u2028\u2029]")


@dataclass
class Document:
    """What a YAML text holds."""

    value: Any = None
    """Mappings with text keys, lists, text, numbers, booleans, None."""
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    """Key path → line, from 1. An entry of a list has its number, from 0, as its key."""


def read_yaml(text: str, where: str) -> Document:
    """Read one YAML 1.2 document.

    A date, a time and ``12e4567``, which may be the beginning of a commit, are text, and so is every key.

    Args:
        where: what to call the text in errors; the line is put behind it.

    Raises:
        InvalidInput: the text is not YAML, is too long or nested too deep, has a key twice, or has tags, anchors or aliases.
    """
    if len(text) > MAX_CHARACTERS:
        problem = f"has more than {MAX_CHARACTERS:,} characters"
        raise InvalidInput(problem, where=where, do="keep rows and long lists in files of their own")
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        location = f"{where}:{mark.line + 1}" if mark else where
        raise InvalidInput(f"is not valid YAML: {shortened(error.problem or error.context)}", where=location, do=_DO) from None
    except Exception as error:  # whatever the parser raises for a user's text, it is the text that cannot be read
        raise InvalidInput(f"is not valid YAML: {shortened(str(error).partition(chr(10))[0])}", where=where, do=_DO) from None
    reader = _Reader(yaml, where)
    return Document(reader.plain(node, ()), reader.lines)


def to_yaml(value: Any, *, flow: bool = False) -> str:
    """Plain data as YAML that ``read_yaml`` reads back.

    Args:
        flow: on one line without a line break, as in ``{length: 5, init: labels}``.
    """
    yaml = YAML(pure=True)
    yaml.Representer = _Representer
    yaml.width = MAX_CHARACTERS
    yaml.default_flow_style = flow
    stream = io.StringIO()
    yaml.dump(value, stream)
    text = stream.getvalue().removesuffix("...\n")
    return text.removesuffix("\n") if flow else text


def shortened(message: object) -> str:
    """At most ``MAX_MESSAGE`` characters of a message; a user's own text in it may be long."""
    text = str(message)
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]} … ({len(text):,} characters)"


class _Representer(RoundTripRepresenter):
    """Quotes text with a rare line break, which would be read back as a blank."""

    def represent_text(self, text: str) -> Any:
        return self.represent_scalar(f"{_TAG}str", text, style='"' if _RARE_BREAK.search(text) else None)


_Representer.add_representer(str, _Representer.represent_text)


class _Composer(Composer):
    """Refuses what no spec needs, and with what a small text could use up minutes or all memory."""

    values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        self.values += 1
        problem = None
        if getattr(event, "anchor", None) is not None:
            problem = "anchors (&) and aliases (*) are not read; write the value out"
        elif getattr(event, "tag", None) is not None:
            problem = "tags (!) are not read; write the value alone"
        elif self.depth >= MAX_DEPTH:
            problem = f"nested more than {MAX_DEPTH} deep"
        elif self.values > MAX_VALUES:
            problem = f"more than {MAX_VALUES:,} keys and values"
        if problem:
            raise ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)


class _Reader:
    """From composed nodes to plain data."""

    def __init__(self, yaml: YAML, where: str) -> None:
        self.yaml, self.where = yaml, where
        self.lines: dict[tuple[str, ...], int] = {}

    def plain(self, node: Node | None, path: tuple[str, ...]) -> Any:
        if node is None:
            return None
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.plain(item, (*path, str(index))) for index, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: tuple[str, ...]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                problem = "a key is text, not a list or a mapping"
                raise InvalidInput(problem, where=f"{self.where}:{line}", do="put text with braces or brackets into quotes")
            key = key_node.value
            below = (*path, key)
            if key in mapping:
                first = self.lines[below]
                lines = f"line {line}" if first == line else f"lines {first} and {line}"
                problem = f"`{shortened('.'.join(below))}` is written twice, on {lines}"
                raise InvalidInput(problem, where=f"{self.where}:{line}", do="keep one of the two")
            self.lines[below] = line
            mapping[key] = self.plain(value_node, below)
        return mapping

    def _scalar(self, node: ScalarNode) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        if kind not in ("int", "float", "bool", "null") or (kind == "float" and node.value.isalnum()):
            return node.value
        try:
            return self.yaml.constructor.construct_object(node)
        except ValueError:  # thousands of digits, or signs and underscores alone
            return node.value
