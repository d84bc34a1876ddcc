"""Faults × moments, and what must come of each: one table for the tests and for the page in ``docs``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.faults.moments import Moment
from tests.faults.servers import Server

Kind = Literal["command killed", "worker killed", "server cut off", "server killed", "disk full"]


@dataclass(frozen=True)
class Scenario:
    """A fault that occurs while a lifecycle is held at a moment.

    Attributes:
        fault: in words.
        server: that is cut off or killed.
        back: whether the server is back before the disturbed command ends.
        outcome: of the disturbed command; None if it is killed itself.
        next_outcome: of the same command, once everything is back.
        doctor: words that ``softprompt doctor`` must say between the two; empty if it must find nothing.
        lost: what a user loses, in words.
        champion_between: whether there is a champion between the two commands although the first promoted none.
        wait_s: the setting ``server_wait_s``.
        nightly: left to ``make test-all``.
    """

    key: str
    fault: str
    moment: Moment
    kind: Kind
    outcome: str | None
    next_outcome: str
    doctor: tuple[str, ...]
    lost: str
    server: Server | None = None
    back: bool = False
    champion_between: bool = False
    wait_s: float = 60.0
    nightly: bool = False


NOTHING = "nothing"
NOTHING_TRAINED = "nothing that was trained"
STEPS = "the steps since the last checkpoint (5 s)"

_NAMES: dict[Server, str] = {
    "mlflow": "MLflow server",
    "postgres": "PostgreSQL under MLflow",
    "s3": "artifact store (S3)",
    "prefect": "Prefect server",
}
_VERBS: dict[Kind, str] = {"server cut off": "cut off", "server killed": "killed"}


def _killed(key: str, moment: Moment, doctor: tuple[str, ...], lost: str, champion_between: bool = False) -> Scenario:
    fault = "`kill -9` of `softprompt run`"
    again = "unchanged" if champion_between else "promoted"  # a promotion that had begun is completed, and stands
    return Scenario(key, fault, moment, "command killed", None, again, doctor, lost, champion_between=champion_between)


def _back(key: str, server: Server, moment: Moment, kind: Kind, *, nightly: bool = False) -> Scenario:
    fault = f"{_NAMES[server]} {_VERBS[kind]}, back soon"
    return Scenario(key, fault, moment, kind, "promoted", "unchanged", (), NOTHING, server, back=True, nightly=nightly)


def _gone(key: str, server: Server, moment: Moment, kind: Kind, doctor: tuple[str, ...], *, nightly: bool = False) -> Scenario:
    fault = f"{_NAMES[server]} {_VERBS[kind]}, away till the end"
    lost = NOTHING_TRAINED
    return Scenario(key, fault, moment, kind, "unavailable", "promoted", doctor, lost, server, wait_s=2.0, nightly=nightly)


def _full(key: str, moment: Moment, lost: str) -> Scenario:
    return Scenario(key, "disk full", moment, "disk full", "unavailable", "promoted", ("GB free",), lost)


SCENARIOS = (
    _killed("killed", "training", ("died", "is gone"), STEPS),
    _killed("killed-half-registered", "half registered", ("died", "registration broke off"), NOTHING_TRAINED),
    _killed("killed-promotion", "promotion", ("died", "not finished"), NOTHING_TRAINED, champion_between=True),
    Scenario(
        "worker",
        "Prefect worker and its run killed",
        "training",
        "worker killed",
        outcome="timed_out",
        next_outcome="promoted",
        doctor=("died", "is Running in Prefect, but its lifecycle is over"),
        lost=STEPS,
        nightly=True,
    ),
    _back("mlflow-back", "mlflow", "training", "server cut off"),
    _back("mlflow-killed", "mlflow", "training", "server killed", nightly=True),
    _gone("mlflow-gone", "mlflow", "training", "server cut off", ("rows of metrics", "its end (unavailable)")),
    _gone("mlflow-decision", "mlflow", "decision", "server cut off", ("undecided", "its end (unavailable)")),
    _back("postgres-training", "postgres", "training", "server cut off", nightly=True),  # as mlflow-back
    _back("postgres-registration", "postgres", "registration", "server killed"),
    _back("postgres-promotion", "postgres", "promotion", "server cut off"),
    _gone("s3-cut", "s3", "upload", "server cut off", (), nightly=True),  # as s3-killed
    _gone("s3-killed", "s3", "upload", "server killed", ()),
    _full("disk-checkpoint", "training", STEPS),
    _full("disk-registration", "registration", NOTHING_TRAINED),
    _back("prefect-back", "prefect", "training", "server cut off"),
    _back("prefect-killed", "prefect", "training", "server killed", nightly=True),
    Scenario(
        "prefect-gone",
        "Prefect server cut off, away till the end",
        "training",
        "server cut off",
        outcome="promoted",
        next_outcome="unchanged",
        doctor=(),
        lost="the end of the flow run in Prefect's pages",
        server="prefect",
        wait_s=2.0,
    ),
)
