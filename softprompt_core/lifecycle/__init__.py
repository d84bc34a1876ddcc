"""The main path, without Prefect: ``run_task`` takes a spec to a decision.

Read ``run`` first; it calls the steps in order: ``resolve`` (spec, data and base → ``ResolvedTask``), ``train``, ``evaluate``,
``assess`` (gates and all numbers, once), ``register``, ``decide``. ``tracking`` is what MLflow shows
of it.
"""
