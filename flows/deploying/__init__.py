"""From spec files and an environment file to work pools, schedules and automations on a Prefect server."""

from flows.deploying.environment import Environment, load_environment
from flows.deploying.server import Change, deploy
from flows.deploying.wanted import Wanted, plan

__all__ = ["Change", "Environment", "Wanted", "deploy", "load_environment", "plan"]
