"""The run record, ``.modelport/runs/<id>/run.json``: every stage's start, end, operations, result and error.

It is the one source of what is said of a run later. It is written whole, atomically, at each change, so
a killed run leaves the record of what it had done.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Protocol, TypeVar, runtime_checkable

from pipelines.errors import PipelineError
from pipelines.values import JSON

SCHEMA = 1
T = TypeVar("T")


@runtime_checkable
class Report(Protocol):
    """What a stage returns, as the record and the closing summary show it."""

    def summary(self) -> str:
        """The text after the stage's time, on one line."""
        ...

    def to_json(self) -> dict[str, JSON]:
        """Everything that the stage found out."""
        ...


@runtime_checkable
class Tabled(Protocol):
    """A report that has more to show than its line."""

    def table(self) -> str:
        """What stands below the run's lines, in a bounded number of lines; "" for nothing."""
        ...


@dataclass(slots=True)
class Stage:
    """One stage of one run. ``executed`` and ``cached`` count the engine's operations, where it tells."""

    name: str
    span: str
    started: datetime
    status: str = "running"
    seconds: float = 0.0
    executed: int | None = None
    cached: int | None = None
    summary: str = ""
    result: dict[str, JSON] = field(default_factory=dict)
    error: dict[str, JSON] = field(default_factory=dict)
    log: Path | None = None
    """The file with all that a failed stage's command said."""
    table: str = ""
    """What people see of it below the run's lines; the record has all of it in ``result``."""

    def to_json(self) -> dict[str, JSON]:
        """The stage as it stands in run.json; times are UTC, RFC 3339."""
        return {
            "name": self.name,
            "status": self.status,
            "started": self.started.isoformat(),
            "ended": datetime.fromtimestamp(self.started.timestamp() + self.seconds, UTC).isoformat(),
            "seconds": round(self.seconds, 3),
            "operations": None
            if self.executed is None
            else {"executed": self.executed, "cached": self.cached},
            "cached": None if self.executed is None else self.executed == 0,
            "summary": self.summary,
            "result": self.result,
            "error": self.error or None,
            "log": str(self.log) if self.log else None,
        }


@dataclass(slots=True)
class Run:
    """One run of one model: its directory, its facts and its stages."""

    model: str
    directory: Path
    events: Path
    """The engine's operations, a JSON line each; it isn't there when the engine doesn't write any."""
    facts: dict[str, JSON] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    tell: Callable[[Stage], None] = lambda stage: None
    """Called when a stage has ended: the console."""

    @property
    def id(self) -> str:
        """The run's id: sortable by time."""
        return self.directory.name

    async def stage(self, name: str, work: Awaitable[T]) -> T:
        """Await ``work`` as the stage ``name``; its outcome is recorded and told, whatever it is."""
        with self.recorded(name) as stage:
            result = await work
            if isinstance(result, Report):
                stage.summary, stage.result = result.summary(), result.to_json()
            if isinstance(result, Tabled):
                stage.table = result.table()
            return result

    @contextmanager
    def recorded(self, name: str) -> Iterator[Stage]:
        """The stage ``name``: everything asked of the engine inside counts for it (W3C trace context)."""
        stage = Stage(name, secrets.token_hex(8), datetime.now(UTC))
        self.stages.append(stage)
        began = monotonic()
        try:
            with trace_context(stage.span):
                yield stage
            stage.status = "ok" if stage.status == "running" else stage.status
        except PipelineError as err:
            stage.status, stage.error = "failed", error_json(err)
            stage.log = self._keep_log(name, err.log)
            if isinstance(err.report, Report):
                stage.summary, stage.result = err.report.summary(), err.report.to_json()
            raise
        except BaseException:
            stage.status = "interrupted"
            raise
        finally:
            stage.seconds = monotonic() - began
            self._count(stage)
            self.save()
            self.tell(stage)

    def _keep_log(self, name: str, text: str) -> Path | None:
        if not text:
            return None
        path = self.directory / f"{name}.log"
        path.write_text(text.rstrip("\n") + "\n")
        return path

    def _count(self, stage: Stage) -> None:
        """Operations of this stage; a Dockerfile build counts by its steps."""
        if not self.events.exists():
            return
        lines = [json.loads(line) for line in self.events.read_text().splitlines() if line.endswith("}")]
        own = [line for line in lines if line.get("span") == stage.span]
        cached = [
            (line["cached"], int(line.get("steps", 1)), int(line.get("cached_steps", 0))) for line in own
        ]
        stage.cached = sum(steps if known else reused for known, steps, reused in cached)
        stage.executed = sum(steps for _, steps, _ in cached) - stage.cached

    def save(self) -> None:
        """Write run.json: all of it or nothing."""
        document = {"schema": SCHEMA, "id": self.id, "model": self.model, **self.facts}
        document["stages"] = [stage.to_json() for stage in self.stages]
        write_json(self.directory / "run.json", document)


@contextmanager
def trace_context(span: str) -> Iterator[None]:
    """Requests of the SDK inside carry ``traceparent`` with this span (W3C Trace Context, section 3.2)."""
    from opentelemetry import context, trace  # noqa: PLC0415  # comes with the SDK: not needed before a stage runs

    parent = trace.SpanContext(secrets.randbits(128) | 1, int(span, 16) or 1, is_remote=False)
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    try:
        yield
    finally:
        context.detach(token)


def error_json(err: PipelineError) -> dict[str, JSON]:
    """An error as the record keeps it."""
    return {
        "message": str(err),
        "hint": err.hint,
        "exit_code": err.exit_code,
        "file": str(err.place.file) if err.place else None,
        "line": err.place.line if err.place else None,
        "detail": err.detail,
    }


def write_json(path: Path, document: object) -> None:
    """Write ``document`` to ``path`` atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    temporary.replace(path)


def new_run_directory(state: Path, model: str) -> Path:
    """``runs/<UTC time>-<model>-<random>`` under ``state``, made now."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    directory = state / "runs" / f"{stamp}-{model}-{secrets.token_hex(2)}"
    directory.mkdir(parents=True)
    return directory
