"""Prefect tasks: one module a step, each a thin call into ``softprompt_core``."""
