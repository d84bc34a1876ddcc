"""Names that the record in MLflow is written with: tags, aliases, and how long a value may be."""

from __future__ import annotations

TASK = "softprompt.task"
OUTCOME = "softprompt.outcome"
OUTCOME_WITHDRAWN = "withdrawn"  # a value of OUTCOME: nobody decided about the version, and nobody will
FINGERPRINT = "softprompt.fingerprint"  # all inputs, gates included
TRAINING_FINGERPRINT = "softprompt.training_fingerprint"
DATA_FINGERPRINT = "softprompt.data_fingerprint"
BASE_ID = "softprompt.base_id"
BASE_REVISION = "softprompt.base_revision"
BASE_FINGERPRINT = "softprompt.base_fingerprint"
SPEC_FINGERPRINT = "softprompt.spec_fingerprint"
LIBRARY_FINGERPRINT = "softprompt.library_fingerprint"
CONTENT_FINGERPRINT = "softprompt.content_fingerprint"  # on a version: all its files
EVIDENCE_FINGERPRINT = "softprompt.evidence_fingerprint"  # on a run: `evaluation/evidence.json`
GIT_COMMIT = "softprompt.git_commit"
COMPARED_WITH = "softprompt.compared_with"  # the champion that a run's evidence holds the answers of
PREFECT_RUN = "softprompt.prefect_run"
POSITION = "softprompt.position"
LENGTH = "softprompt.length"
SCHEDULE = "softprompt.schedule"  # the spec's cron and time zone, so that nobody has to download it to know when
SLOW_PATH = "softprompt.slow_path"  # why the fast path of the base was not used

# On a copy from another environment: the settings profile it was read with, the store, and what it was there.
SOURCE = "softprompt.source"
SOURCE_STORE = "softprompt.source_store"
SOURCE_VERSION = "softprompt.source_version"
SOURCE_RUN = "softprompt.source_run"
SOURCE_URL = "softprompt.source_url"

KIND = "softprompt.kind"  # of a run: `monitor`, `revalidation`, `sweep`, `sweep_point`; a lifecycle's has none
SWEEP_KIND = "sweep"
SWEEP_POINT_KIND = "sweep_point"
SWEEP = "softprompt.sweep"  # fingerprint of all points; sweeps of equal points have equal ones
SWEEP_BEST = "softprompt.sweep_best"  # settings of the best point
HEALTH = "softprompt.health"
HEALTH_REASON = "softprompt.health_reason"
HEALTH_VERSION = "softprompt.health_version"
HEALTH_RUN = "softprompt.health_run"
HEALTH_AT = "softprompt.health_at"
VALIDITY = "softprompt.validity"
MONITORED_VERSION = "softprompt.monitored_version"

STATUS = "softprompt.status"
REGISTERED = "registered"  # the value of STATUS that makes a version visible; set last
DECIDED_AT = "softprompt.decided_at"
LEDGER_PREFIX = "softprompt.ledger."
APPROVAL_EXPIRES = "softprompt.approval_expires"
WITHDRAWN = "softprompt.withdrawn"  # on a version that was rolled back: when, by whom, why
PROCESS = "softprompt.process"  # on a run: who works on it

# No task can have this name: those begin with a letter or a digit.
LOCKS = "_softprompt-locks"
OWNER = "softprompt.owner"
NONCE = "softprompt.nonce"
BEAT = "softprompt.beat"

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"

# MLflow refuses longer values, or the columns behind them do: SQLite takes any length, PostgreSQL does not.
RUN_TAG_LIMIT = 8000
PARAM_LIMIT = 6000
VERSION_TAG_LIMIT = 100_000
MODEL_TAG_LIMIT = 5000
DESCRIPTION_LIMIT = 5000
KEY_LIMIT = 250


def shortened(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` characters; a cut one ends in ``…``."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
