"""Models from code: MLflow runs this file to make the pyfunc model of a version; nothing is pickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from softprompt_core.serving import Predictor


class SoftPromptModel(PythonModel):
    """Input: a frame with the template's columns. Output: ``prediction`` (and ``probability`` for classification)."""

    def load_context(self, context: Any) -> None:
        self.predictor = Predictor.load(Path(context.artifacts["soft_prompt"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        return self.predictor.predict(model_input)


set_model(SoftPromptModel())
