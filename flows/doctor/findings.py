"""What ``softprompt doctor`` says about one thing."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

from softprompt_core.masking import masked


class Finding(BaseModel):
    """The result of one check, or one thing that was repaired.

    Attributes:
        what: the part that was looked at.
        found: how it is.
        do: what to do about it; empty when there is nothing to do.
    """

    model_config = ConfigDict(frozen=True)

    status: Literal["ok", "warning", "problem"]
    what: str
    found: str
    do: str = ""

    @field_validator("found", "do", mode="after")
    @classmethod
    def _without_passwords(cls, text: str) -> str:
        return masked(text)


def ok(what: str, found: str) -> Finding:
    return Finding(status="ok", what=what, found=found)


def warning(what: str, found: str, do: str) -> Finding:
    return Finding(status="warning", what=what, found=found, do=do)


def problem(what: str, found: str, do: str) -> Finding:
    return Finding(status="problem", what=what, found=found, do=do)
