"""Work that is spread over the workers of a Ray cluster, through ``prefect-ray``."""

from tasks.fan_out.driver import fan_out
from tasks.fan_out.queue import Item

__all__ = ["Item", "fan_out"]
