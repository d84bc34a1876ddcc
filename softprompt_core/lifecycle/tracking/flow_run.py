"""The Prefect flow run that a lifecycle belongs to, as this library records it. Nothing here needs Prefect."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FlowRun:
    """A flow run.

    Attributes:
        url: its page; None where it ran without a server that has pages.
    """

    id: str
    name: str
    url: str | None = None

    @property
    def markdown(self) -> str:
        """For descriptions: a link, or the run's name and id."""
        return f"[{self.name}]({self.url})" if self.url else f"{self.name} ({self.id}), run without a server"
