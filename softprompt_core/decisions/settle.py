"""Decide about a version whose run broke off before the decision, on the evidence that is stored; withdraw it where that is not
enough."""

from __future__ import annotations

import tempfile
from pathlib import Path

from softprompt_core.errors import InvalidInput, Outcome
from softprompt_core.lifecycle.decide import decide
from softprompt_core.serving import SPEC_FILE
from softprompt_core.spec import load_spec
from softprompt_core.store import tags, versions
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import reconcile, recording
from softprompt_core.store.metric_buffer import MetricBuffer
from softprompt_core.store.versions import Version

_BY = "softprompt doctor --repair"


def settle(store: Store, version: Version) -> str:
    """End an undecided version; returns how, in words.

    Its own gates compare it with the champion that stands, on the answers that are stored. Nobody is scored and no base is
    loaded: a version whose evidence does not reach is withdrawn, and the next run of the task makes another one.

    Raises:
        Unavailable: MLflow does not answer, or somebody keeps deciding.
    """
    try:
        outcome = recording.with_current_champion(store, version.name, lambda: _decided(store, version))
    except InvalidInput as error:
        reason = f"its run broke off before a decision, and its gates cannot decide any more: {error.what}"
        withdrawn = recording.withdraw(store, version, by=_BY, reason=reason)
        return f"withdrawn; {reason}" if withdrawn else "was decided about meanwhile"
    return f"is {outcome.value.replace('_', ' ')} now, by its gates and the evidence in its run"


def why_undecided(store: Store, version: Version) -> str:
    """Why nobody has decided about a version whose run is over."""
    about = (entry for entry in reversed(reconcile.task_state(store, version.name).entries) if entry.candidate == version.version)
    entry = next(about, None)
    if entry is not None and entry.status == "superseded":
        return f"nothing was decided: {entry.reason}"
    if entry is not None and entry.status == "intent":
        return f"its {entry.action} was begun and not finished"
    run, kept = store.reader.run(version.run_id), MetricBuffer(store.addresses, version.run_id).pending().ending
    if run is None:
        return f"its run {version.run_id} was deleted before a decision"
    ended = (kept.tags if kept else run.tags).get(tags.OUTCOME)
    if ended is None and run.status in ("RUNNING", "KILLED"):
        return f"the process of its run {version.run_id} died between registration and decision"
    ended = ended or run.status.lower()
    return f"its run {version.run_id} ended as {ended} between registration and decision"


def _decided(store: Store, version: Version) -> Outcome:
    from softprompt_core.decisions.reevaluate import log_again, reevaluate

    champion = versions.aliases(store, version.name).get(tags.CHAMPION)
    with tempfile.TemporaryDirectory() as scratch:
        spec = load_spec(versions.download(store, version.name, version.version, Path(scratch)) / SPEC_FILE)
    decision, results = reevaluate(store, version, champion, score=False)
    log_again(store, version.run_id, champion, decision, results)
    reason = f"decided on the stored evidence, since its run broke off: {decision.verdict}"
    return decide(spec, store, version, decision, champion, by=_BY, reason=reason)
