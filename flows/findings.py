"""What ``softprompt doctor`` says about one thing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """One check. ``do`` is empty when there is nothing to do."""

    status: Literal["ok", "warning", "problem"]
    what: str
    found: str
    do: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
