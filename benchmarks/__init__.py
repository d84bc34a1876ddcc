"""Measurements: training, scoring and orchestration against peers (``python -m benchmarks``); ``real_data`` for quality."""
