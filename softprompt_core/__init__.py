"""Soft-prompt lifecycle: data preparation, prompt-tuning training, evaluation, registration, promotion, serving.

This package knows torch, transformers, datasets and MLflow, and never imports Prefect. Importing it loads nothing heavy.
"""

__version__ = "0.1.0"
