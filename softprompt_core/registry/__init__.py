"""The record of truth in MLflow: runs, versions, the ledger of decisions, and the aliases that they move."""

from softprompt_core.registry import tags
from softprompt_core.registry.ledger import Entry, Evidence, history
from softprompt_core.registry.promotion import ChampionMoved, record_decision
from softprompt_core.registry.runs import (
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
from softprompt_core.registry.stores import Stores, connect, default_stores, masked
from softprompt_core.registry.versions import (
    Version,
    aliases,
    by_alias,
    download,
    get,
    last_decided,
    list_versions,
    register,
    version_size_bytes,
)

__all__ = [
    "ChampionMoved",
    "Entry",
    "Evidence",
    "Stores",
    "Version",
    "aliases",
    "by_alias",
    "connect",
    "default_stores",
    "download",
    "experiment_id",
    "finish",
    "get",
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
    "read_json",
    "record_decision",
    "register",
    "start_run",
    "tags",
    "version_size_bytes",
]
