"""Metrics and the end of a run, kept in a file until MLflow has taken them.

One file a run below ``<home>/spool``: a header, then metric rows in the order in which they came, then maybe how the run ended.
The process that wrote it may have ended, and MLflow may be away; the next process that finds the file sends the rest
(``flushing``).

Every row keeps the moment at which it was written. MLflow takes a metric with the same key, step, time and value once, so a row
that is sent twice, because an answer was lost or a process died, is still there once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from softprompt_core.json_files import replacing
from softprompt_core.store import processes
from softprompt_core.store.addresses import Addresses

_SILENT_S = 7 * 24 * 3600  # after a reboot nobody can tell whether the process is gone


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True, ser_json_inf_nan="constants")


class _Header(_Record):
    """The first line of a file. ``store`` is the address of MLflow without passwords."""

    run: str
    task: str = ""
    store: str = ""
    process: str = ""


class MetricRow(_Record):
    """Metrics of one step; ``at_ms``: when they were written, in milliseconds since 1970."""

    at_ms: int = Field(alias="at")
    step: int
    values: Mapping[str, float]


class Ending(_Record):
    """How a run ended, as MLflow has it: its status and tags."""

    status: str
    tags: Mapping[str, str] = {}


class _Note(_Record):
    """Kept beside the file: up to which byte MLflow has it; or since when, and why, it could not be sent."""

    delivered: int = 0
    since: AwareDatetime | None = None
    why: str = ""


_LINE = TypeAdapter[_Header | MetricRow | Ending](_Header | MetricRow | Ending)


@dataclass(frozen=True)
class Pending:
    """What MLflow does not have yet. ``end_byte``: the byte in the file behind it."""

    rows: tuple[MetricRow, ...]
    ending: Ending | None
    end_byte: int

    def __bool__(self) -> bool:
        return bool(self.rows) or self.ending is not None


class MetricBuffer:
    """The file of one run. Several threads may use one object; other processes may read the file meanwhile."""

    def __init__(self, addresses: Addresses, run_id: str, task: str = "") -> None:
        self.run_id = run_id
        self.path = _folder(addresses) / f"{run_id}.jsonl"
        self._new_header = _Header(run=run_id, task=task, store=addresses.masked_tracking_uri, process=processes.this_process())
        self._note_path = self.path.with_suffix(".json")
        self._lock = threading.Lock()
        self._written: set[tuple[int, str]] | None = None

    @property
    def task(self) -> str:
        return self._header().task

    @property
    def failing_since(self) -> datetime | None:
        """Since when sending has failed, UTC; None if it is not known to fail."""
        return self._note().since

    @property
    def failure(self) -> str:
        """Why it could not be sent."""
        return self._note().why

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Keep the metrics of a step; None is left out.

        What was kept for the step before stays as it is: a training that goes on from a checkpoint repeats some steps.

        Raises:
            OSError: the file cannot be written; it then has none of the row.
        """
        with self._lock:
            if self._written is None:
                self._written = {(row.step, key) for row in self._read(0).rows for key in row.values}
            new = {k: float(v) for k, v in values.items() if v is not None and (step, k) not in self._written}
            if new:
                self._append(MetricRow(at_ms=int(time.time() * 1000), step=step, values=new))
                self._written |= {(step, key) for key in new}

    def end(self, ending: Ending) -> None:
        """Keep how the run ended. From then on any process may remove the file. Raises OSError as ``add``."""
        with self._lock:
            self._append(ending)

    def pending(self) -> Pending:
        """What MLflow does not have yet, oldest first."""
        return self._read(self._note().delivered)

    def mark_flushed(self, end_byte: int) -> None:
        """Note that MLflow has everything before a byte of the file."""
        self._write_note(_Note(delivered=end_byte))

    def mark_failed(self, reason: str) -> None:
        """Note that sending failed, for ``softprompt doctor``."""
        note = self._note()
        self._write_note(note.model_copy(update={"since": note.since or datetime.now(UTC).replace(microsecond=0), "why": reason}))

    def remove(self) -> None:
        """Delete the files: MLflow has everything."""
        for path in (self.path, self._note_path):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def is_abandoned(self) -> bool:
        """Whether nobody will write to it any more: the run has ended, its process is certainly gone, or a week has passed."""
        try:
            silent_s = time.time() - self.path.stat().st_mtime
        except OSError:
            return True
        gone = processes.certainly_gone(self._header().process)
        return gone or silent_s > _SILENT_S or self._read(0).ending is not None

    def _header(self) -> _Header:
        return next((line for line, _ in self._lines(0) if isinstance(line, _Header)), _Header(run=self.run_id))

    def _read(self, start: int) -> Pending:
        rows, ending, end_byte = [], None, start
        for line, end_byte in self._lines(start):  # noqa: B007 (the last one counts)
            if isinstance(line, MetricRow):
                rows.append(line)
            elif isinstance(line, Ending):
                ending = line
        return Pending(tuple(rows), ending, end_byte)

    def _lines(self, start: int) -> Iterator[tuple[_Header | MetricRow | Ending, int]]:
        """Each whole line, and the byte behind it. A line that a dying process did not finish is passed over."""
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                for line in file:
                    start += len(line)
                    if not line.endswith(b"\n"):
                        return
                    with suppress(ValueError):
                        yield _LINE.validate_json(line), start
        except FileNotFoundError:
            return

    def _append(self, record: MetricRow | Ending) -> None:
        records = [record] if self.path.exists() else [self._new_header, record]
        data = "".join(f"{each.model_dump_json()}\n" for each in records).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError:
                os.ftruncate(file.fileno(), size)
                raise

    def _note(self) -> _Note:
        try:
            return _Note.model_validate_json(self._note_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return _Note()

    def _write_note(self, note: _Note) -> None:
        # Lost, it costs no more than that rows are sent once more.
        with suppress(OSError), replacing(self._note_path) as partial:
            partial.write_text(note.model_dump_json(exclude_defaults=True), encoding="utf-8")


def buffers(addresses: Addresses) -> list[MetricBuffer]:
    """The buffers on this machine for the record of ``addresses``, the oldest run first."""
    files = sorted(_folder(addresses).glob("*.jsonl"), key=lambda file: file.stat().st_mtime)
    all_buffers = (MetricBuffer(addresses, file.stem) for file in files)
    return [buffer for buffer in all_buffers if buffer._header().store == addresses.masked_tracking_uri]


def _folder(addresses: Addresses) -> Path:
    return addresses.home / "spool"  # the name that releases before wrote to
