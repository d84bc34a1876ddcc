"""Registered versions in use: ``Predictor`` answers frames of one task, ``Router`` rows of many tasks in one batch.

``pyfunc_model.py`` is the predictor behind MLflow's pyfunc interface.
"""

from softprompt_core.serving.predictor import SPEC_FILE, Predictor
from softprompt_core.serving.router import Answer, Request, Router

__all__ = ["SPEC_FILE", "Answer", "Predictor", "Request", "Router"]
