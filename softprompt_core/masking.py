"""Passwords and tokens are kept out of messages: the one function for all that leaves a process."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator

_HIDDEN = "***"
# Passwords may hold any character but a space, so everything up to the last `@` counts as log-in.
_LOG_IN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<log_in>\S*)@", re.IGNORECASE)
# An address of this machine with its port, and an `@` that stands further behind.
_HERE = re.compile(r"(127\.\d+\.\d+\.\d+|localhost|\[::1\]|0\.0\.0\.0):\d{1,5}(?=[/?#])", re.IGNORECASE)
_NAMES_ONLY = ("postgresql", "mysql", "mssql", "ssh")
_SECRET_NAME = r"[\w.-]*(?:pass|pwd|secret|token|api_?key|access_?key|signature|credential|auth)[\w.-]*|sig|key|code"
_PARAMETER = re.compile(rf"(?P<name>[?&;](?:{_SECRET_NAME})=)[^&;#\s]+", re.IGNORECASE)
_ASSIGNMENT = re.compile(
    r"(?P<name>\b(?:\w*(?:password|passwd|secret|api_?key|access_?key)\w*|pwd|(?:access|auth|bearer|session)_token) ?= ?)"
    r"(?!\*\*\*)(?:'[^']*'|\"[^\"]*\"|[^\s&,;]+)",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(?P<name>\b(?:Bearer|Basic) )[\w.~+/=-]{6,}")
_SHAPES = re.compile(
    r"\b(?:hf_|gh[pousr]_|github_pat_|pnu_|pnb_|glpat-|xox[abprs]-)[\w-]{10,}|(?<=hooks\.slack\.com/services/)\S+"
)


def masked(text: str) -> str:
    """``text`` with the passwords and tokens in it blotted out: of addresses, their parameters, settings and headers."""
    if "@" in text:
        text = _LOG_IN.sub(_without_password, text)
    text = _PARAMETER.sub(rf"\g<name>{_HIDDEN}", text)
    text = _ASSIGNMENT.sub(rf"\g<name>{_HIDDEN}", text)
    text = _HEADER.sub(rf"\g<name>{_HIDDEN}", text)
    return _SHAPES.sub(_HIDDEN, text)


def print_traceback(error: BaseException) -> None:
    """Print the traceback of an error that nobody foresaw to stderr, without passwords."""
    print(masked("".join(traceback.format_exception(error))), end="", file=sys.stderr)


def mask(error: BaseException) -> None:
    """Blot passwords out of an error and what it was raised from, before something that is not ours shows them."""
    for cause in causes(error):
        cause.args = tuple(masked(value) if isinstance(value, str) else value for value in cause.args)
        for name, value in list(getattr(cause, "__dict__", {}).items()):
            if isinstance(value, str) and masked(value) != value:
                setattr(cause, name, masked(value))


def _without_password(match: re.Match[str]) -> str:
    scheme, log_in = match["scheme"], match["log_in"]
    if here := _HERE.match(log_in):
        return scheme + here[0] + _LOG_IN.sub(_without_password, f"{log_in[here.end() :]}@")
    user, colon, password = log_in.partition(":")
    if not colon and ("/" in user or scheme.lower().startswith(_NAMES_ONLY)):
        return match[0]  # no secret: `https://host/name@revision`, `postgresql://me@host`
    # Without a password the name is the token; so it is beside the fixed words that some servers want in its place.
    if not password or password in ("x-oauth-basic", "x-token-auth"):
        return f"{scheme}{_HIDDEN}@"
    return f"{scheme}{user}:{_HIDDEN}@"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
