"""How a version stands, in the words of its description. One function makes them from the state, and every move calls it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from softprompt_core.errors import Outcome
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.entries import LIFECYCLE, Entry
from softprompt_core.store.tags import CHAMPION, DESCRIPTION_LIMIT, OUTCOME, OUTCOME_WITHDRAWN, WITHDRAWN, shortened
from softprompt_core.store.versions import Version, get

_DECISIONS = ("promote", "approve", "reject", "await", "withdraw")
_LONGEST_SENTENCE = 600


def standing(version: Version, entries: Sequence[Entry]) -> tuple[str, str]:
    """How a version stands, in a phrase, and why, in a sentence; the sentence is empty where nobody said why.

    Args:
        entries: the ledger of its task, oldest first.
    """
    about = (e for e in reversed(entries) if e.candidate == version.version and e.action in _DECISIONS)
    entry = next((e for e in about if e.status == "completed"), None)
    why = "" if entry is None else entry.reason if entry.by == LIFECYCLE else f"By {entry.by}: {entry.reason}"
    outcome = version.tags.get(OUTCOME)
    if CHAMPION in version.aliases and outcome != Outcome.PROMOTED:
        return "made champion by hand", why
    if WITHDRAWN in version.tags:
        return "rolled back", version.tags[WITHDRAWN]
    if version.awaits_approval:
        until = f"{version.approval_expires:%Y-%m-%d %H:%M} UTC"
        if version.approval_expired():
            return "gates passed, approval expired", f"Nobody approved it until {until}. {why}"
        return "gates passed, waits for approval", f"{why} It may be approved until {until}."
    promoted = "all gates passed"
    if entry is not None and (entry.override or entry.action == "approve"):
        promoted = "promoted although its gates said no" if entry.override else "all gates passed, approved"
    phrases = {
        None: "registered, not decided yet",
        Outcome.PROMOTED.value: promoted,
        Outcome.REJECTED.value: "not promoted",
        OUTCOME_WITHDRAWN: "withdrawn, never decided about",
    }
    return phrases.get(outcome, "not promoted"), why


def described(version: Version, entries: Sequence[Entry], text: str | None = None) -> str:
    """A description whose first two paragraphs say how the version stands; numbers and all that follows stay.

    Args:
        text: the description; by default the one that the version has.
    """
    numbers, rest = _without_standing(version.name, version.description if text is None else text)
    phrase, why = standing(version, entries)
    sentence = shortened(" ".join(why.split()), _LONGEST_SENTENCE)
    parts = [f"{_beginning(version.name)}{phrase}.{numbers}", f"**{sentence}**" if sentence else "", rest]
    return shortened("\n\n".join(part for part in parts if part) + "\n", DESCRIPTION_LIMIT)


def disagrees(version: Version, entries: Sequence[Entry]) -> str | None:
    """What a description of ours says in place of how the version stands; None if they agree, or the words are somebody's own."""
    beginning, (phrase, _) = _beginning(version.name), standing(version, entries)
    first = version.description.partition("\n")[0]
    if not first.startswith(beginning) or first.startswith(f"{beginning}{phrase}."):
        return None
    return first.removeprefix(beginning).partition(".")[0]


def write_standing(store: Store, name: str, version: int, entries: Sequence[Entry], text: str | None = None) -> None:
    """Bring a version's description in line with its state. Safe to repeat. Arguments as for ``described``."""
    found = get(store, name, version)
    wanted = described(found, entries, text)
    if wanted != found.description:
        store.client.update_model_version(name, str(version), wanted)


def _beginning(name: str) -> str:
    return f"Soft prompt for {name}: "


def _without_standing(name: str, text: str) -> tuple[str, str]:
    """Numbers of the first sentence, and the paragraphs behind the one that says why."""
    first, _, rest = text.partition("\n")
    if not first.startswith(_beginning(name)):
        return "", text.strip("\n")
    numbers = re.search(r"\.( Test .+)$", first)
    sentence, _, behind = rest.lstrip("\n").partition("\n")
    if sentence.startswith("**") and sentence.endswith("**"):
        rest = behind
    return numbers[1] if numbers else "", rest.strip("\n")
