"""HTML from the templates beside this file. Every text that comes in is escaped, because rows, labels and names are other
people's words; pages hold no script and nothing external."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_LONGEST_TEXT = 400


def render(template: str, **values: Any) -> str:
    """A template of ``report/templates`` with these values. Raises jinja2.UndefinedError for one that is missing."""
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("softprompt_core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"is_web": _is_web, "shortened": _shortened}
    return environment


def _is_web(address: str) -> bool:
    """Whether an address may become a link: one of another scheme could run something."""
    return address.startswith(("http://", "https://"))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
