"""The record of truth in MLflow: runs, versions, the ledger of decisions, and the aliases that they move."""

from softprompt_core.registry import tags
from softprompt_core.registry.approval import Pending, awaiting, decision_about, pending
from softprompt_core.registry.ledger import Entry, Evidence, history
from softprompt_core.registry.moves import ChampionMoved
from softprompt_core.registry.overview import HealthNote, TaskOverview, UnfinishedRun, health_note, health_notes, overview
from softprompt_core.registry.promotion import DecidedMeanwhile, explained, named, record_decision, rollback
from softprompt_core.registry.recovery import Standing, repair, standing
from softprompt_core.registry.retention import prunable, prune
from softprompt_core.registry.runs import (
    end_all_killed_runs,
    experiment_id,
    finish,
    log_figure,
    log_history,
    log_json,
    log_metrics,
    log_params,
    log_table,
    log_text,
    read_json,
    start_run,
)
from softprompt_core.registry.stores import Stores, connect, default_stores
from softprompt_core.registry.turns import clear_dead_tickets
from softprompt_core.registry.versions import (
    Version,
    aliases,
    by_alias,
    download,
    get,
    last_decided,
    list_versions,
    register,
    registered_model,
    version_size_bytes,
)
from softprompt_core.settings import masked

__all__ = [
    "ChampionMoved",
    "DecidedMeanwhile",
    "Entry",
    "Evidence",
    "HealthNote",
    "Pending",
    "Standing",
    "Stores",
    "TaskOverview",
    "UnfinishedRun",
    "Version",
    "aliases",
    "awaiting",
    "by_alias",
    "clear_dead_tickets",
    "connect",
    "decision_about",
    "default_stores",
    "download",
    "end_all_killed_runs",
    "experiment_id",
    "explained",
    "finish",
    "get",
    "health_note",
    "health_notes",
    "history",
    "last_decided",
    "list_versions",
    "log_figure",
    "log_history",
    "log_json",
    "log_metrics",
    "log_params",
    "log_table",
    "log_text",
    "masked",
    "named",
    "overview",
    "pending",
    "prunable",
    "prune",
    "read_json",
    "record_decision",
    "register",
    "registered_model",
    "repair",
    "rollback",
    "standing",
    "start_run",
    "tags",
    "version_size_bytes",
]
