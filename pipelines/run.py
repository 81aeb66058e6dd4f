"""``modelport run``: the models of a place, in one engine session, all at once."""

from __future__ import annotations

import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import anyio

from pipelines import engine_session, engines, progress
from pipelines.ci_systems import CiSystem, detect
from pipelines.config import find_models, load
from pipelines.console import Console
from pipelines.errors import PipelineError
from pipelines.plan import Plan, Push, make_plan
from pipelines.preflight import preflight
from pipelines.record import Run, error_json, new_run_directory
from pipelines.source import SourceRevision, read_source
from pipelines.state import one_run_at_a_time, state_directory
from pipelines.values import JSON

if TYPE_CHECKING:
    from pipelines.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks of a run."""

    start: Path
    engine: engines.Engine = engines.Engine.AUTO
    push: Push = Push.AUTO
    debug: bool = False


@dataclass(slots=True)
class Outcome:
    """How the run of one model ended."""

    plan: Plan
    run: Run
    receipt: Receipt | None = None
    error: PipelineError | None = None

    def to_json(self) -> dict[str, JSON]:
        """The outcome for ``--json``: the receipt and where the record is."""
        return {
            "model": self.plan.model.name,
            "run": self.run.id,
            "record": str(self.run.directory / "run.json"),
            "receipt": self.receipt.to_json() if self.receipt else None,
            "error": error_json(self.error) if self.error else None,
        }


@dataclass(slots=True)
class Session:
    """What the runs of one engine session share."""

    directory: Path
    engine: engines.Choice
    ci: CiSystem
    environ: Mapping[str, str] = field(repr=False)
    state: Path
    """The repository's ``.modelport``."""
    several: bool
    debug: bool = False
    ready: anyio.Event = field(default_factory=anyio.Event)
    """The engine is connected."""
    outcomes: list[Outcome] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """What the engine says."""
        return self.directory / "engine.log"

    @property
    def events(self) -> Path:
        """The embedded engine's operations."""
        return self.directory / "events.jsonl"


async def run(options: Options, environ: Mapping[str, str]) -> list[Outcome]:
    """Run every model at ``options.start``; their outcomes, failed ones included.

    Raises:
        PipelineError: before any model ran: configuration, source, engine.
    """
    models = [load(file, environ) for file in find_models(options.start)]
    engine_session.without_call_checks()
    Thread(target=engine_session.load_graph, daemon=True).start()  # meanwhile git and the engine are asked
    source = await read_source(models[0].directory, environ)
    state = state_directory(source.root)
    plans = [make_plan(model, source, state, environ, options.push) for model in models]
    with ExitStack() as locks:
        for model in models:
            locks.enter_context(one_run_at_a_time(state, model.name))
        choice = await engines.choose(options.engine, environ)
        session = Session(
            _session_directory(state), choice, detect(environ), environ, state, len(models) > 1, options.debug
        )
        engine = _engine_coming(session, source.root)
        async with engine, showing_progress(session), anyio.create_task_group() as tasks:
            for plan in plans:
                tasks.start_soon(_run_model, plan, session)
    return session.outcomes


@asynccontextmanager
async def _engine_coming(session: Session, workdir: Path) -> AsyncIterator[None]:
    """The engine starts beside the block, which waits for ``session.ready`` when it needs it."""
    ended = anyio.Event()

    async def serve() -> None:
        async with engine_session.connected(session.engine, workdir, session.log, session.events):
            session.ready.set()
            await ended.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        yield
        ended.set()
        if not session.ready.is_set():  # nobody needed it: a preflight failed
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def showing_progress(session: Session) -> AsyncIterator[None]:
    """Tell what is under way for as long as the block lasts."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(progress.show, session.runs, sys.stderr)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


async def _run_model(plan: Plan, session: Session) -> None:
    console = Console(plan.model.name if session.several else "")
    record = Run(
        plan.model.name, new_run_directory(session.state, plan.model.name), session.events, tell=console.stage
    )
    record.facts = _facts(plan, session)
    outcome = Outcome(plan, record)
    session.outcomes.append(outcome)
    session.runs.append(record)
    Console().line(headline(plan, session.engine))
    try:
        outcome.receipt = await _released(plan, record, session)
        record.facts["status"] = "ok"
        console.tables(record)
    except PipelineError as err:
        outcome.error, outcome.receipt = err, getattr(err, "receipt", None)  # a push in part has one
        record.facts |= {"status": "failed", "error": error_json(err)}
        console.error(err, lambda error: session.ci.annotation(error, plan.source.root))
        _show_log(console, record, session)
    except BaseException:
        record.facts["status"] = "interrupted"
        raise
    finally:
        receipt = outcome.receipt.to_json() if outcome.receipt else None
        record.facts |= {"ended": datetime.now(UTC).isoformat(), "receipt": receipt}
        record.save()


async def _released(plan: Plan, record: Run, session: Session) -> Receipt | None:
    """Preflight, which needs no engine and goes on while that starts; then the graph."""
    await record.stage("preflight", preflight(plan, session.environ, session.engine))
    await session.ready.wait()
    from pipelines.model_image import release  # noqa: PLC0415  # the SDK: imported while the engine starts

    return await release(plan, record, session.state, session.environ)


def _show_log(console: Console, record: Run, session: Session) -> None:
    """After a failure: where the failed step's log is; with ``--debug`` the engine's log itself."""
    if session.debug and session.log.exists():
        for line in session.log.read_text(errors="replace").splitlines():
            console.line(f"  | {line}")
    for stage in record.stages:
        if stage.log is not None:
            console.line(f"log: {stage.log}")


def headline(plan: Plan, engine: object) -> str:
    """The first line of a run: model, commit, branch, state of the tree, engine and why."""
    left = f"{plan.model.name} {plan.source.short} ({plan.source.summary()})"
    return f"{left:<38} engine: {engine}"


def _source_json(source: SourceRevision) -> dict[str, JSON]:
    return {
        "commit": source.commit,
        "head_commit": source.head_commit,
        "committed_at": source.committed_at.isoformat(),
        "branch": source.branch,
        "tags": list(source.tags),
        "remote": source.remote,
        "dirty": list(source.dirty),
        "shallow": source.shallow,
        "pull_request": source.pull_request,
    }


def _facts(plan: Plan, session: Session) -> dict[str, JSON]:
    return {
        "status": "running",
        "started": datetime.now(UTC).isoformat(),
        "source": _source_json(plan.source),
        "engine": {"kind": session.engine.kind, "why": session.engine.why, "log": str(session.log)},
        "ci": {"system": session.ci.name or None, "run_url": session.ci.run_url},
        "plan": plan.to_json(),
    }


def _session_directory(state: Path) -> Path:
    directory = state / "sessions" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    directory.mkdir(parents=True)
    return directory
