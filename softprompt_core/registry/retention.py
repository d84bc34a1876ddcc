"""Take old versions away, and write down that it was done. Whatever is in use, was just in use, or waits, stays."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from softprompt_core.errors import InvalidInput
from softprompt_core.registry.ledger import NO_EVIDENCE, Entry, new_key, write
from softprompt_core.registry.moves import complete
from softprompt_core.registry.promotion import explained, named
from softprompt_core.registry.recovery import settled
from softprompt_core.registry.stores import Stores
from softprompt_core.registry.tags import OUTCOME
from softprompt_core.registry.turns import turn
from softprompt_core.registry.versions import Version, list_versions, registered_model

if TYPE_CHECKING:
    from mlflow import MlflowClient


def prunable(client: MlflowClient, name: str, keep: int) -> list[Version]:
    """Versions that ``prune`` would delete, newest first: all but the ``keep`` newest, and never one that has an alias (champion,
    previous, challenger, or any other), waits for approval, or was not decided about yet.

    Raises:
        InvalidInput: no such task, or ``keep`` is negative.
    """
    if keep < 0:
        raise InvalidInput("cannot keep fewer than 0 versions", where=f"--keep {keep}", do="name how many of the newest to keep")
    if registered_model(client, name) is None:
        raise InvalidInput(
            "no version is registered under this name", where=name, do="`softprompt registry list` shows the tasks"
        )
    versions = list_versions(client, name)
    return [
        v for v in versions[keep:] if not v.aliases and OUTCOME in v.tags and not (v.awaits_approval and not v.approval_expired())
    ]


def prune(client: MlflowClient, stores: Stores, *, name: str, keep: int, by: str, reason: str) -> list[int]:
    """Delete what ``prunable`` lists; returns the versions' numbers. Their runs, with all evidence, stay.

    Raises:
        InvalidInput: as ``prunable``; nobody's name or no reason.
        Unavailable: as for ``record_decision``.
    """
    by, reason = named(by, name), explained(reason, name)
    with turn(client, stores, name) as held:
        now = settled(client, held, name)
        found = prunable(client, name, keep)
        if not found:
            return []
        numbers = tuple(version.version for version in found)
        entry = Entry(new_key(now.entries), "prune", "intent", by, reason, None, now.champion, NO_EVIDENCE, deleted=numbers)
        held.confirm("entry intent")
        write(client, name, entry)
        for version in found:
            held.confirm(f"delete version {version.version}")
            client.delete_model_version(name, str(version.version))
            _delete_files(client, version)
        complete(client, held, name, entry)
    return list(numbers)


def _delete_files(client: MlflowClient, version: Version) -> None:
    """Mark the version's files as deleted; `mlflow gc` then takes them away. Without them the version is gone all the same."""
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        outputs = client.get_run(version.run_id).outputs
        for model in outputs.model_outputs if outputs else ():
            versions = client.get_logged_model(model.model_id).tags.get("mlflow.modelVersions", "")
            if f'"version": {version.version}}}' in versions and f'"name": "{version.name}"' in versions:
                client.delete_logged_model(model.model_id)
