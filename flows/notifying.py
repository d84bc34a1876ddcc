"""One message after a lifecycle, through a notification block of Prefect's."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from softprompt_core import settings
from softprompt_core.lifecycle.result import LifecycleResult
from softprompt_core.masking import masked
from softprompt_core.store.failures import in_brief


def notify(result: LifecycleResult) -> bool:
    """Send a message if the settings ``notify_block`` and ``notify_on`` ask for one; returns whether one was sent.

    A dry run sends none. A message that cannot be sent is a warning: it never changes the outcome.
    """
    chosen = settings.current()
    if chosen.notify_block is None or result.dry_run or result.outcome not in chosen.notify_on:
        return False
    try:
        block = _block(chosen.notify_block)
    except Exception as error:  # whatever it is, the outcome stands
        return _warn(f"no message was sent through the block {chosen.notify_block}: {in_brief(error)}")
    subject, body = message(result)
    try:
        with block.raise_on_failure():
            sent: Any = block.notify(body, subject)
            if asyncio.iscoroutine(sent):  # of a block that is not Prefect's own
                asyncio.run(sent)
    except Exception as error:
        # Its message holds the webhook's address, and with it the key.
        code = getattr(getattr(error, "response", None), "status_code", None)
        reason = type(error).__name__ + (f", status {code}" if code is not None else "")
        return _warn(f"the message through the block {chosen.notify_block} failed: {reason}")
    return True


def message(result: LifecycleResult) -> tuple[str, str]:
    """Subject and body, in plain text."""
    name = f"{result.task} version {result.version}" if result.version is not None else result.task
    lines = [masked(result.reason)]
    if result.to_approve:
        lines.append(f"To approve: {result.to_approve}")
    lines += [f"{pages}: {url}" for pages, url in (("MLflow", result.run_url), ("Prefect", result.prefect_url)) if url]
    return f"{name}: {result.ending.replace('_', ' ')}", "\n".join(lines)


def _block(name: str) -> NotificationBlock:
    import prefect.blocks.notifications  # noqa: F401  # loading a block needs its class

    block = Block.load(name)
    if not isinstance(block, NotificationBlock):
        raise TypeError("it is not a notification block")
    return block


def _warn(message: str) -> bool:
    print(f"warning: {message}", file=sys.stderr)
    with suppress(MissingContextError):  # outside of a flow run there is no log to write to
        get_run_logger().warning(message)
    return False
