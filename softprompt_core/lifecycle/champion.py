"""The version that a candidate is compared with."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from softprompt_core.errors import InvalidInput
from softprompt_core.lifecycle.resolve import ResolvedTask
from softprompt_core.store import versions
from softprompt_core.store.connection import Store
from softprompt_core.store.failures import in_brief, is_disk_full, is_transient
from softprompt_core.store.tags import CHAMPION
from softprompt_core.store.versions import Version


@dataclass(frozen=True)
class Champion:
    """The champion at one moment, with its files on this machine.

    Attributes:
        version: its number.
        folder: its soft prompt and spec; empty where ``problem`` says why they cannot be read.
        problem: a champion without files loses by its gate, with these words.
    """

    version: int
    folder: Path
    problem: str | None = None


def fetch_champion(task: ResolvedTask, store: Store) -> Champion | None:
    """The task's champion as it is now; None where there is none yet.

    Raises:
        Unavailable: MLflow has not answered for ``server_wait_s`` seconds.
    """
    return store.retry(lambda: _fetch(task, store))


def _fetch(task: ResolvedTask, store: Store) -> Champion | None:
    champion = versions.by_alias(store, task.name, CHAMPION)
    if champion is None:
        return None
    return with_files(store, champion, task.workspace.champion(champion.version))


def with_files(store: Store, version: Version, to: Path) -> Champion:
    """A version with its files below ``to``, or with the problem that they have. Raises what says that MLflow does not answer."""
    shutil.rmtree(to, ignore_errors=True)
    try:
        return Champion(version.version, versions.download(store, version.name, version.version, to))
    except Exception as error:
        if is_transient(error) or is_disk_full(error):
            raise
        why = error.what if isinstance(error, InvalidInput) else f"its files cannot be read: {in_brief(error)}"
        return Champion(version.version, to, f"version {version.version}: {why}")
