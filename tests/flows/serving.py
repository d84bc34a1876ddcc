"""Serve the lifecycle's deployment with Prefect's own runner: ``python -m tests.flows.serving NAME SPEC``."""

from __future__ import annotations

import sys

from flows.lifecycle import lifecycle

if __name__ == "__main__":
    lifecycle.serve(name=sys.argv[1], parameters={"spec": sys.argv[2]}, pause_on_shutdown=False)
