"""The record of truth in MLflow: runs, versions, the ledger of decisions, and the aliases that they move."""

from softprompt_core.registry import tags
from softprompt_core.registry.approval import Pending, awaiting, decision_about, pending
from softprompt_core.registry.content import content_fingerprint
from softprompt_core.registry.delivery import Deliverer, close, deliver, deliver_all, deliver_within
from softprompt_core.registry.ledger import Entry, Evidence, history
from softprompt_core.registry.moves import ChampionMoved
from softprompt_core.registry.overview import HealthNote, TaskOverview, UnfinishedRun, health_note, health_notes, overview
from softprompt_core.registry.promotion import DecidedMeanwhile, explained, named, record_decision, rollback
from softprompt_core.registry.recovery import Standing, repair, standing
from softprompt_core.registry.registering import HalfMade, discard_half_made, half_made, register, register_copy
from softprompt_core.registry.retention import prunable, prune
from softprompt_core.registry.runs import (
    FAILED,
    FINISHED,
    end_all_killed_runs,
    ending,
    experiment_id,
    finish,
    finished_flow_runs,
    has_ended,
    killed_runs,
    log_figure,
    log_json,
    log_metrics,
    log_params,
    log_points,
    log_table,
    log_text,
    read_json,
    start_run,
)
from softprompt_core.registry.spool import Ending, Spool, spools
from softprompt_core.registry.stores import Stores, connect, default_stores
from softprompt_core.registry.troubles import patiently, unavailable
from softprompt_core.registry.turns import clear_dead_tickets, turn
from softprompt_core.registry.versions import (
    Version,
    aliases,
    by_alias,
    download,
    download_whole,
    get,
    last_decided,
    list_versions,
    registered_model,
    version_size_bytes,
)
from softprompt_core.settings import masked

__all__ = [
    "FAILED",
    "FINISHED",
    "ChampionMoved",
    "DecidedMeanwhile",
    "Deliverer",
    "Ending",
    "Entry",
    "Evidence",
    "HalfMade",
    "HealthNote",
    "Pending",
    "Spool",
    "Standing",
    "Stores",
    "TaskOverview",
    "UnfinishedRun",
    "Version",
    "aliases",
    "awaiting",
    "by_alias",
    "clear_dead_tickets",
    "close",
    "connect",
    "content_fingerprint",
    "decision_about",
    "default_stores",
    "deliver",
    "deliver_all",
    "deliver_within",
    "discard_half_made",
    "download",
    "download_whole",
    "end_all_killed_runs",
    "ending",
    "experiment_id",
    "explained",
    "finish",
    "finished_flow_runs",
    "get",
    "half_made",
    "has_ended",
    "health_note",
    "health_notes",
    "history",
    "killed_runs",
    "last_decided",
    "list_versions",
    "log_figure",
    "log_json",
    "log_metrics",
    "log_params",
    "log_points",
    "log_table",
    "log_text",
    "masked",
    "named",
    "overview",
    "patiently",
    "pending",
    "prunable",
    "prune",
    "read_json",
    "record_decision",
    "register",
    "register_copy",
    "registered_model",
    "repair",
    "rollback",
    "spools",
    "standing",
    "start_run",
    "tags",
    "turn",
    "unavailable",
    "version_size_bytes",
]
