"""The whole life of soft prompts: data, training, evaluation, registration, promotion, serving.

This package knows torch, transformers, datasets and MLflow, and never imports Prefect. Its public interface is what ``_PUBLIC``
names: ``run_task`` with its steps, ``Store`` and ``Predictor`` (docs/python-api.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from softprompt_core.version import __version__ as __version__

if TYPE_CHECKING:
    from softprompt_core.lifecycle.assess import assess as assess
    from softprompt_core.lifecycle.decide import decide as decide
    from softprompt_core.lifecycle.evaluate import evaluate as evaluate
    from softprompt_core.lifecycle.register import register as register
    from softprompt_core.lifecycle.resolve import resolve as resolve
    from softprompt_core.lifecycle.run import run_task as run_task
    from softprompt_core.lifecycle.train import train as train
    from softprompt_core.serving import Predictor as Predictor
    from softprompt_core.store.connection import Store as Store

_PUBLIC = {
    "Predictor": "softprompt_core.serving",
    "Store": "softprompt_core.store.connection",
    "assess": "softprompt_core.lifecycle.assess",
    "decide": "softprompt_core.lifecycle.decide",
    "evaluate": "softprompt_core.lifecycle.evaluate",
    "register": "softprompt_core.lifecycle.register",
    "resolve": "softprompt_core.lifecycle.resolve",
    "run_task": "softprompt_core.lifecycle.run",
    "train": "softprompt_core.lifecycle.train",
}


def __getattr__(name: str) -> Any:
    # PEP 562. Importing these here would load torch and MLflow, seconds, for every command that only asks for a setting.
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
