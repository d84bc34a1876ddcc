"""How a flow's result reaches its caller in this process: with the final state and, if Prefect's server is gone, without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.servers.prefect_server import is_unanswered, note_unanswered

_reported: ContextVar[list[Any]] = ContextVar("reported")


class FlowFailed(Exception):
    """The result of a flow that ends as failed.

    Prefect raises a failed state's data on a worker, and prints that: this says the reason, where plain data would be a
    TypeError about it.
    """

    def __init__(self, reason: str, result: Any) -> None:
        super().__init__(reason, result)
        self.reason, self.result = reason, result

    def __str__(self) -> str:
        return self.reason


def final_state(name: str | None, reason: str, result: Any, *, failed: bool) -> State[Any]:
    """The state that a flow ends in, with its result."""
    if failed:
        return Failed(name=name, message=reason, data=FlowFailed(reason, result))
    return Completed(name=name, message=reason, data=result)


def result_of(state: State[Any]) -> Any:
    """The result that ``final_state`` was given; raises what a flow raised."""
    result: Any = state.result(raise_on_failure=False)
    if isinstance(result, FlowFailed):
        return result.result
    if isinstance(result, BaseException):
        raise result
    return result


def report(results: Sequence[Any]) -> None:
    """Give results to ``call_flow``, before Prefect is told how the flow ended."""
    _reported.get([]).extend(results)


def call_flow(flow: Callable[[], State[Any]]) -> list[Any]:
    """Call a flow and return its results. What was done counts, whether Prefect could be told or not.

    Returns:
        The results of the final state, or those that the flow reported before Prefect's server stopped answering: none if it
        did so before the flow began.
    """
    reported: list[Any] = []
    token = _reported.set(reported)
    try:
        result = result_of(flow())
    except Exception as error:
        if not is_unanswered(error):
            raise
        note_unanswered(error)
        return reported
    finally:
        _reported.reset(token)
    return result if isinstance(result, list) else [result]
