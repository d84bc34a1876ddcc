"""A person's decision about a version."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from softprompt_core.decisions.review import Review, Verb, review
from softprompt_core.store.connection import Store


@task(name="review", cache_policy=NO_CACHE, task_run_name="{verb}: {name} version {version}")
def review_version(name: str, version: int, verb: Verb, by: str, reason: str) -> Review:
    """Approve or reject; the gates run again where the champion has moved."""
    return review(Store.connect(), name, version, verb, by=by, reason=reason)
