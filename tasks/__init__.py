"""Prefect tasks: one module a stage, each a thin call into ``softprompt_core.stages``."""
