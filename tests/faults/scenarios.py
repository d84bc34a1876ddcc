"""Faults × moments, and what must come of each: one table for the tests and for the page in ``docs``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Strike = Literal["kill command", "mlflow", "postgres", "s3", "prefect", "disk", "worker"]


@dataclass(frozen=True)
class Scenario:
    """A fault that strikes while a lifecycle is held at a moment.

    Attributes:
        strike: what is killed, or filled.
        moment: of `zygote.arm`.
        back: whether what was killed is started again (or room is made) before the disturbed run ends.
        outcome: of the disturbed run; None for a process that is killed itself.
        next_outcome: of the same command, once everything is back.
        doctor: words that ``softprompt doctor`` must say between the two; empty if it must find nothing.
        lost: what a user loses, in words.
    """

    key: str
    fault: str
    moment: str
    strike: Strike
    back: bool
    outcome: str | None
    next_outcome: str
    doctor: tuple[str, ...]
    lost: str
    champion_between: bool = False
    wait_s: float = 60.0


NOTHING = "nothing"
TRAINED_AGAIN = "nothing that was trained"
STEPS = "the steps since the last checkpoint (5 s)"


def _killed(key: str, moment: str, doctor: tuple[str, ...], lost: str, champion_between: bool = False) -> Scenario:
    fault = "`kill -9` of `softprompt run`"
    return Scenario(key, fault, moment, "kill command", False, None, "promoted", doctor, lost, champion_between)


def _back(key: str, what: str, moment: str, strike: Strike) -> Scenario:
    return Scenario(key, f"{what} killed, back soon", moment, strike, True, "promoted", "unchanged", (), NOTHING)


def _gone(key: str, what: str, moment: str, strike: Strike, doctor: tuple[str, ...]) -> Scenario:
    fault = f"{what}, away till the end"
    return Scenario(key, fault, moment, strike, False, "unavailable", "promoted", doctor, TRAINED_AGAIN, wait_s=2.0)


def _full(key: str, moment: str, lost: str) -> Scenario:
    return Scenario(key, "disk full", moment, "disk", False, "unavailable", "promoted", ("GB free",), lost)


SCENARIOS = (
    _killed("killed", "training", ("died", "is gone"), STEPS),
    _killed("killed-half-registered", "half registered", ("died", "registration broke off"), TRAINED_AGAIN),
    _killed("killed-promotion", "promotion", ("died", "not finished"), TRAINED_AGAIN, champion_between=True),
    Scenario(
        "worker",
        "Prefect worker and its run killed",
        "training",
        "worker",
        back=False,
        outcome="timed_out",
        next_outcome="promoted",
        doctor=("died", "is Running in Prefect, but its lifecycle is over"),
        lost=STEPS,
    ),
    _back("mlflow-back", "MLflow server", "training", "mlflow"),
    _gone("mlflow-gone", "MLflow server killed", "training", "mlflow", ("rows of metrics", "its end (unavailable)")),
    _gone("mlflow-decision", "MLflow server killed", "decision", "mlflow", ("undecided", "its end (unavailable)")),
    _back("postgres-training", "PostgreSQL under MLflow", "training", "postgres"),
    _back("postgres-registration", "PostgreSQL under MLflow", "registration", "postgres"),
    _back("postgres-promotion", "PostgreSQL under MLflow", "promotion", "postgres"),
    _gone("s3-cut", "artifact store (S3) cut", "upload", "s3", ()),
    _full("disk-checkpoint", "training", STEPS),
    _full("disk-registration", "registration", TRAINED_AGAIN),
    _back("prefect-back", "Prefect server", "training", "prefect"),
    Scenario(
        "prefect-gone",
        "Prefect server killed, away till the end",
        "training",
        "prefect",
        back=False,
        outcome="promoted",
        next_outcome="unchanged",
        doctor=(),
        lost="the end of the flow run in Prefect's pages",
        wait_s=2.0,
    ),
)
