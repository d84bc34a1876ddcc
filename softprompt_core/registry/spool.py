"""What MLflow must still be told about a run, kept in a file until MLflow has taken it.

One file a run below ``<home>/spool``: a header, then metric rows in the order in which they came, then maybe how the run ended.
Whoever wrote it may be gone, and so may MLflow; the next one that finds the file delivers what is left (``delivery``).

Every row keeps the moment at which it was written. MLflow takes a metric with the same key, step, time and value once, so a row
that is delivered twice, because an answer was lost or a process died, is still there once.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from softprompt_core.registry import processes
from softprompt_core.registry.stores import Stores
from softprompt_core.settings import masked

_SILENT_S = 7 * 24 * 3600  # after a reboot nobody can tell whether the process is gone


@dataclass(frozen=True)
class Row:
    """Metrics of one step; ``at_ms``: when they were written, in milliseconds since 1970."""

    at_ms: int
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Ending:
    """How the run ended, in MLflow's words: its status, its tags."""

    status: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Waiting:
    """What was not delivered yet. ``upto``: the byte in the file behind it."""

    rows: tuple[Row, ...]
    ending: Ending | None
    upto: int

    def __bool__(self) -> bool:
        return bool(self.rows) or self.ending is not None


class Spool:
    """The file of one run. Several threads may use one object; other processes may read the file meanwhile."""

    def __init__(self, stores: Stores, run_id: str, task: str = "") -> None:
        self.run_id = run_id
        self._header = {"run": run_id, "task": task, "store": masked(stores.tracking_uri), "process": processes.me()}
        self._file = stores.home / "spool" / f"{run_id}.jsonl"
        self._note = self._file.with_suffix(".json")
        self._lock = threading.Lock()
        self._known: set[tuple[int, str]] | None = None

    @property
    def path(self) -> Path:
        return self._file

    @property
    def task(self) -> str:
        return str(self._head().get("task", ""))

    @property
    def since(self) -> datetime | None:
        """Since when it has been impossible to deliver, UTC; None if it is not known to be."""
        text = self._noted().get("since")
        return datetime.fromisoformat(text) if text else None

    @property
    def why(self) -> str:
        """Why it could not be delivered."""
        return str(self._noted().get("why", ""))

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Keep the metrics of a step; None is left out. What was kept for the step before stays as it is: a training that goes on
        from a checkpoint comes by some steps again. Raises OSError when the file cannot be written; it then has none of the row.
        """
        given = {key: float(value) for key, value in values.items() if value is not None}
        with self._lock:
            if self._known is None:
                self._known = {(row.step, key) for row in self._read(0).rows for key in row.values}
            new = {key: value for key, value in given.items() if (step, key) not in self._known}
            if new:
                self._write({"at": int(time.time() * 1000), "step": step, "values": new})
                self._known |= {(step, key) for key in new}

    def end(self, how: Ending) -> None:
        """Keep how the run ended. From then on anybody may take the file away. Raises OSError as ``add``."""
        with self._lock:
            self._write({"status": how.status, "tags": dict(how.tags)})

    def waiting(self) -> Waiting:
        """What was not delivered yet, oldest first."""
        return self._read(int(self._noted().get("delivered", 0)))

    def delivered(self, upto: int) -> None:
        """Note that MLflow has everything before a byte of the file."""
        self._write_note({"delivered": upto})

    def failed(self, why: str) -> None:
        """Note that delivering failed, for ``softprompt doctor``."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._write_note({"since": now, **self._noted(), "why": why})

    def remove(self) -> None:
        """Forget it: MLflow has everything."""
        for path in (self._file, self._note):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def left(self) -> bool:
        """Whether nobody will write to it any more: the run has ended, its process is certainly gone, or all is silent."""
        try:
            silent_s = time.time() - self._file.stat().st_mtime
        except OSError:
            return True
        ended = self._read(0).ending is not None
        return ended or silent_s > _SILENT_S or processes.certainly_gone(str(self._head().get("process", "")))

    def _head(self) -> Mapping[str, Any]:
        return next((value for value, _ in self._lines(0) if "run" in value), {})

    def _read(self, start: int) -> Waiting:
        rows, ending, upto = [], None, start
        for value, upto in self._lines(start):  # noqa: B007 (the last one counts)
            if "values" in value:
                rows.append(Row(value["at"], value["step"], value["values"]))
            elif "status" in value:
                ending = Ending(value["status"], value["tags"])
        return Waiting(tuple(rows), ending, upto)

    def _lines(self, start: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Each whole line, and the byte behind it. What a dying process left behind the last one is passed over."""
        try:
            with self._file.open("rb") as file:
                file.seek(start)
                for line in file:
                    start += len(line)
                    if not line.endswith(b"\n"):
                        return
                    with suppress(ValueError):
                        yield json.loads(line), start
        except FileNotFoundError:
            return

    def _write(self, value: dict[str, Any]) -> None:
        lines = [value] if self._file.exists() else [self._header, value]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("ab", buffering=0) as file:
            before = os.fstat(file.fileno()).st_size
            try:
                while text:
                    text = text[file.write(text) :]
            except OSError:
                os.ftruncate(file.fileno(), before)
                raise

    def _noted(self) -> dict[str, Any]:
        try:
            found = json.loads(self._note.read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            return {}

    def _write_note(self, note: dict[str, Any]) -> None:
        # Lost, it costs no more than that rows are delivered once more.
        with suppress(OSError):
            partial = self._note.with_suffix(f".{threading.get_ident()}.partial")
            partial.write_text(json.dumps(note), encoding="utf-8")
            partial.replace(self._note)


def spools(stores: Stores) -> list[Spool]:
    """What is kept on this machine for the record of ``stores``, the oldest run first."""
    files = sorted((stores.home / "spool").glob("*.jsonl"), key=lambda file: file.stat().st_mtime)
    found = [Spool(stores, file.stem) for file in files]
    return [spool for spool in found if spool._head().get("store") == masked(stores.tracking_uri)]
