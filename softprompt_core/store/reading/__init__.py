"""Reads of the record, without MLflow's client where that can be done: importing MLflow takes seconds."""

from softprompt_core.store.reading.reader import PAGE_SIZE, Reader, StoredModel, StoredRun, StoredVersion, moment

__all__ = ["PAGE_SIZE", "Reader", "StoredModel", "StoredRun", "StoredVersion", "moment"]
