"""A registered version in use: ``Predictor`` answers frames; ``pyfunc_model.py`` is the same behind MLflow's pyfunc interface."""

from softprompt_core.serving.predictor import BASE_OVERRIDE, SPEC_FILE, Predictor

__all__ = ["BASE_OVERRIDE", "SPEC_FILE", "Predictor"]
