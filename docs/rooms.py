"""The picture of the rooms in ``docs/how-it-works.md``, drawn from the imports: ``python docs/rooms.py``, part of ``make docs``.

An arrow means "imports". Arrows that follow from others are left out (transitive reduction), so the picture shows the order in
which rooms stand on each other; `[tool.importlinter]` in pyproject.toml holds that order.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import grimp

PAGE = Path(__file__).parent / "how-it-works.md"
BEGIN, END = "<!-- rooms: made by docs/rooms.py -->", "<!-- end of rooms -->"
_PACKAGES = ("deployments", "flows", "tasks", "softprompt_core")
_EVERYWHERE = ("masking", "errors", "settings", "fingerprint", "json_files", "markdown", "text_files")  # imported by all


def imports() -> dict[str, set[str]]:
    """Room → the rooms that it imports."""
    graph = grimp.build_graph(*_PACKAGES, cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            room, other = _room(module), _room(imported)
            if room and other and room != other:
                found.setdefault(room, set()).add(other)
    return found


def reduced(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The arrows that follow from no others, sorted."""

    def reaches(start: str, end: str) -> bool:
        seen, waiting = set(), [start]
        while waiting:
            for following in graph.get(waiting.pop(), ()):
                if following == end:
                    return True
                if following not in seen:
                    seen.add(following)
                    waiting.append(following)
        return False

    arrows = []
    for room, others in graph.items():
        between = {b for a, b in combinations(sorted(others), 2) if reaches(a, b)}
        between |= {a for a, b in combinations(sorted(others), 2) if reaches(b, a)}
        arrows += [(room, other) for other in others - between]
    return sorted(arrows)


def page(text: str) -> str:
    """The page with the picture of now."""
    lines = "\n".join(f"  {room} --> {other}" for room, other in reduced(imports()))
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n```mermaid\nflowchart TD\n{lines}\n```\n{END}{after}"


def _room(module: str) -> str | None:
    package, _, inside = module.partition(".")
    if package != "softprompt_core":
        return package
    room = inside.partition(".")[0]
    return room if room and room not in _EVERYWHERE else None


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
