"""Approve or reject a version that waits, from a form in Prefect's pages. It does what `softprompt registry approve` does.

``python -m flows.approval`` serves it: the deployment `softprompt-approval/form` then shows a form at "Run → Custom run".
"""

# No `from __future__ import annotations` here: a runner loads this file by its path, under a name that is not in sys.modules, and
# Prefect then cannot resolve annotations that are text.
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.final_states import final_state
from softprompt_core.errors import Outcome, SoftpromptError
from tasks.decisions import review_version


@flow(name="softprompt-approval")
def approval(
    name: str,
    version: Annotated[int, Field(ge=1)],
    decision: Literal["approve", "reject"],
    by: Annotated[str, Field(min_length=1)],
    reason: Annotated[str, Field(min_length=1)],
) -> State[Any]:
    """Decide about a version whose gates have passed.

    Args:
        name: The task's name.
        version: The version that waits; `softprompt registry pending` lists them.
        decision: If the champion has moved since the gates ran, approving runs them again.
        by: Your name. It stands in the ledger.
        reason: Why, in a sentence. It stands in the ledger.
    """
    try:
        review = review_version(name, version, decision, by, reason)
    except SoftpromptError as error:
        failure = {"outcome": error.outcome.value, "reason": str(error)}
        return final_state(error.outcome.state_name, str(error), failure, failed=error.outcome is not Outcome.REJECTED)
    return final_state(review.outcome.state_name, review.reason, review, failed=False)


if __name__ == "__main__":
    # Whoever stops this process to restart it does not want the form to be gone after.
    approval.serve(name="form", pause_on_shutdown=False)
