"""The one policy for repeated tries: as long as an error may pass, with growing pauses, until a time is over."""

from __future__ import annotations

from collections.abc import Callable

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_any,
    stop_before_delay,
    stop_never,
    wait_exponential_jitter,
)
from tenacity.stop import stop_base

from softprompt_core.store.failures import is_answer, is_transient

_MAX_ERROR_ANSWERS = 4


def retrying(
    seconds: float,
    is_worth_a_retry: Callable[[BaseException], bool] = is_transient,
    *,
    pause_s: tuple[float, float] = (0.5, 10.0),
    stop: stop_base = stop_never,
) -> Retrying:
    """A tenacity object: ``retrying(60)(call)`` is the result of ``call``, or its last error.

    Args:
        seconds: for how long; no pause begins that would end later.
        is_worth_a_retry: whether an error may pass; any other is raised at once.
        pause_s: the first pause and the longest one. They double, with a random part so that processes do not collide again.
        stop: a further reason to give up.
    """
    first, longest = pause_s
    return Retrying(
        retry=retry_if_exception(is_worth_a_retry),
        wait=wait_exponential_jitter(multiplier=first, max=longest, jitter=first),
        stop=stop_any(stop_before_delay(seconds), stop),
        reraise=True,
    )


class AnsweredWithErrors(stop_base):
    """A reason to give up: MLflow answered four times, each time with an error. That may as well be a mistake in the call."""

    def __init__(self) -> None:
        self._answers = 0

    def __call__(self, retry_state: RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome is not None else None
        self._answers += is_answer(error)
        return self._answers >= _MAX_ERROR_ANSWERS
