"""What a run in MLflow holds: metrics, parameters, files. Always by the run's id."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from softprompt_core.store.connection import Store
from softprompt_core.store.failures import is_missing
from softprompt_core.store.metric_buffer import MetricRow
from softprompt_core.store.tags import KEY_LIMIT, PARAM_LIMIT, shortened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

T = TypeVar("T")

_METRICS_PER_REQUEST = 1000
_PARAMS_PER_REQUEST = 100


def log_rows(store: Store, run_id: str, rows: Iterable[MetricRow]) -> None:
    """Log metrics of steps, in few requests. MLflow takes the same row (key, step, time, value) once, however often it comes."""
    points: dict[str, list[tuple[float, int, int]]] = {}
    for row in rows:
        for key, value in row.values.items():
            points.setdefault(legal_name(key), []).append((value, row.at_ms, row.step))
    log_points(store, run_id, points)


def log_metrics(store: Store, run_id: str, metrics: Mapping[str, float | None], step: int = 0) -> None:
    """Log single values. None is left out, NaN is kept; characters that MLflow refuses in a name are spelt out."""
    values = {key: float(value) for key, value in metrics.items() if value is not None}
    log_rows(store, run_id, [MetricRow(at_ms=int(time.time() * 1000), step=step, values=values)])


def log_points(store: Store, run_id: str, points: Mapping[str, Iterable[tuple[float, int, int]]]) -> None:
    """Log whole histories as another run has them: name → (value, time in ms, step)."""
    from mlflow.entities import Metric

    metrics = [Metric(name, *point) for name, history in points.items() for point in history]
    for batch in _batches(metrics, _METRICS_PER_REQUEST):
        store.client.log_batch(run_id, metrics=batch)


def log_params(store: Store, run_id: str, params: Mapping[str, Any]) -> None:
    """Log settings as text, long ones cut. None is left out. MLflow refuses another value for a name that is logged already."""
    from mlflow.entities import Param

    rows = [Param(legal_name(key), shortened(str(value), PARAM_LIMIT)) for key, value in params.items() if value is not None]
    for batch in _batches(rows, _PARAMS_PER_REQUEST):
        store.client.log_batch(run_id, params=batch)


def log_text(store: Store, run_id: str, text: str, file: str) -> None:
    """Write ``text`` to ``file`` (a path inside the run's artifacts)."""
    store.client.log_text(run_id, text, file)


def log_json(store: Store, run_id: str, value: Any, file: str) -> None:
    """Write plain data as JSON. Raises ValueError for NaN and infinity, which JSON does not have."""
    store.client.log_text(run_id, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", file)


def read_json(store: Store, run_id: str, file: str) -> Any | None:
    """The value that ``log_json`` or ``log_table`` wrote; None where the run, or the file in it, is not there any more."""
    from mlflow.artifacts import download_artifacts

    try:
        store.client.get_run(run_id)
        if file not in {item.path for item in store.client.list_artifacts(run_id, posixpath.dirname(file))}:
            return None
    except Exception as error:
        if not is_missing(error):
            raise
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = download_artifacts(run_id=run_id, artifact_path=file, dst_path=folder, tracking_uri=store.client.tracking_uri)
        return json.loads(Path(path).read_text(encoding="utf-8"))


def log_table(store: Store, run_id: str, frame: pd.DataFrame, file: str) -> None:
    """Write a table that MLflow's evaluation view shows; ``file`` ends in ``.json``.

    The client's own ``log_table`` appends to a table that is there, so a step that is retried would list every row twice.
    """
    store.client.log_text(run_id, frame.to_json(orient="split", index=False, date_format="iso", force_ascii=False), file)
    tables = json.loads(store.client.get_run(run_id).data.tags.get("mlflow.loggedArtifacts", "[]"))
    if (entry := {"path": file, "type": "table"}) not in tables:
        store.client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([*tables, entry]))


def log_figure(store: Store, run_id: str, figure: Figure, file: str) -> None:
    """Write a figure; the ending of ``file`` (``.png``, ``.svg``) chooses the format."""
    store.client.log_figure(run_id, figure, file)


def log_bytes(store: Store, run_id: str, content: bytes, file: str) -> None:
    """Write bytes as they are, for a figure that is drawn already."""
    folder, name = posixpath.split(file)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        path.write_bytes(content)
        store.client.log_artifact(run_id, str(path), folder or None)


def legal_name(name: str) -> str:
    """``name`` as MLflow takes it for a metric or parameter: ``f1/c++`` becomes ``f1/c_x2b__x2b_``. No two names become one."""

    def escape(match: re.Match[str]) -> str:
        return f"_x{ord(match[0]):x}_"

    legal = re.sub(r"[^/\w.\- :]", escape, name)
    # MLflow treats names as paths; `f1/.` or `f1//x` would be another one.
    if posixpath.normpath(legal) != legal or legal.startswith(("/", "..")) or legal == ".":
        legal = re.sub(r"[/.]", escape, legal)
    if len(legal) > KEY_LIMIT:
        legal = f"{legal[: KEY_LIMIT - 9]}_{hashlib.sha256(legal.encode()).hexdigest()[:8]}"
    return legal


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
