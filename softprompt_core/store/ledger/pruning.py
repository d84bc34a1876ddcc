"""Delete old versions, and record it. Versions that are in use, were just in use, or wait, stay."""

from __future__ import annotations

import json
from contextlib import suppress

from softprompt_core.errors import InvalidInput
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger.entries import write
from softprompt_core.store.ledger.lock import decision_lock
from softprompt_core.store.ledger.moves import mark_completed
from softprompt_core.store.ledger.reconcile import reconciled
from softprompt_core.store.ledger.recording import require_name, require_reason
from softprompt_core.store.tags import OUTCOME
from softprompt_core.store.versions import Version, list_versions


def prunable(store: Store, name: str, keep: int) -> list[Version]:
    """Versions that ``prune`` would delete, newest first: all but the ``keep`` newest, and never one that has an alias (champion,
    previous, challenger, or any other), waits for approval, or was not decided about yet.

    Raises:
        InvalidInput: no such task, or ``keep`` is negative.
    """
    if keep < 0:
        raise InvalidInput("cannot keep fewer than 0 versions", where=f"--keep {keep}", do="name how many of the newest to keep")
    if store.reader.model(name) is None:
        raise InvalidInput(
            "no version is registered under this name", where=name, do="`softprompt registry list` shows the tasks"
        )
    versions = list_versions(store, name)
    return [
        v for v in versions[keep:] if not v.aliases and OUTCOME in v.tags and not (v.awaits_approval and not v.approval_expired())
    ]


def prune(store: Store, *, name: str, keep: int, by: str, reason: str) -> list[int]:
    """Delete the versions of ``prunable``; returns their numbers. Their runs, with all evidence, stay.

    Raises:
        InvalidInput: as ``prunable``; nobody's name or no reason.
        Unavailable: as for ``record_decision``.
    """
    by, reason = require_name(by, name), require_reason(reason, name)
    with decision_lock(store, name) as lock:
        state = reconciled(lock)
        versions = prunable(store, name, keep)
        if not versions:
            return []
        numbers = tuple(version.version for version in versions)
        entry = state.new_entry("prune", by, reason, candidate=None, deleted=numbers)
        lock.heartbeat("entry intent")
        write(store, name, entry)
        for version in versions:
            lock.heartbeat(f"delete version {version.version}")
            store.client.delete_model_version(name, str(version.version))
            _delete_files(store, version)
        mark_completed(lock, entry)
    return list(numbers)


def _delete_files(store: Store, version: Version) -> None:
    """Mark the version's files as deleted, so that `mlflow gc` removes them. The version is deleted even if that fails."""
    from mlflow.exceptions import MlflowException

    registered_as = {"name": version.name, "version": version.version}
    with suppress(MlflowException):
        outputs = store.client.get_run(version.run_id).outputs
        for output in outputs.model_outputs if outputs else ():
            tags = store.client.get_logged_model(output.model_id).tags
            with suppress(ValueError):  # somebody has changed the tag
                versions = json.loads(tags.get("mlflow.modelVersions", "[]"))
                if isinstance(versions, list) and registered_as in versions:
                    store.client.delete_logged_model(output.model_id)
