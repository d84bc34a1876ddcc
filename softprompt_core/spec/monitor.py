"""``MonitorSpec``: how a champion is watched, as a user writes it."""

from __future__ import annotations

from pydantic import Field

from softprompt_core.spec.frozen import Frozen, OneOrMore


class MonitorSpec(Frozen):
    """How `softprompt monitor` watches the champion. Nothing here changes a prompt or a decision."""

    data: OneOrMore = ()
    """Files of new rows: paths or globs, of the kinds that `data.source.files` takes. With the target's columns the champion is
    scored on them; without, the inputs alone are compared with those of the training."""
    margin: float = Field(0.02, ge=0, allow_inf_nan=False)
    """How much lower than at promotion the headline metric may be."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """How sure a verdict of `degraded`, or of shifted inputs, must be."""
    min_rows: int = Field(50, ge=10)
    """With fewer new rows the verdict is `unknown`."""
