"""The steps of a lifecycle as Prefect tasks.

Nothing is cached by Prefect: finished files and checkpoints in the workspace tell what need not be done again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from softprompt_core.lifecycle import steps
from softprompt_core.lifecycle.resolve import resolve
from softprompt_core.lifecycle.steps import Steps
from softprompt_core.lifecycle.tracking.curves import log_training
from softprompt_core.lifecycle.tracking.run import open_run
from softprompt_core.masking import mask
from tasks.training import train_task

P = ParamSpec("P")
R = TypeVar("R")


def as_task(name: str, step: Callable[P, R], run_name: str | None = None) -> Callable[P, R]:
    """A step as a task. Prefect does not look into the arguments, which hold whole data sets and answers.

    Args:
        run_name: of the task's runs; by default the step's name and the task's that it is about.
    """

    @functools.wraps(step)
    def masked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return step(*args, **kwargs)
        except Exception as error:
            mask(error)  # Prefect keeps its message
            raise

    wrapped = Task(
        masked, name=name, task_run_name=run_name or f"{name}: {{task.name}}", cache_policy=NO_CACHE, persist_result=False
    )

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        quoted: Any = [quote(value) for value in args], {key: quote(value) for key, value in kwargs.items()}
        return wrapped(*quoted[0], **quoted[1])

    return call


def prefect_steps(*, spread_seeds: bool = False) -> Steps:
    """The lifecycle's steps as tasks of the flow that this is called in.

    Args:
        spread_seeds: train several seeds on several workers of the Ray cluster that this process is one of.
    """
    return Steps(
        resolve=as_task("resolve", resolve, "resolve: {spec.name}"),
        check=as_task("check", steps.check_task),
        open_run=as_task("open run", open_run),
        train=as_task("train", train_task(spread_seeds)),
        log_training=as_task("log training", log_training),
        evaluate=as_task("evaluate", steps.evaluate_candidate),
        register=as_task("register", steps.register_candidate),
        log_assessment=as_task("log evaluation", steps.log_assessment),
        decide=as_task("decide", steps.decide_version, "decide: {task.name} version {version.version}"),
    )
