"""The rung "budgets": what the model takes, measured. Judging is the pipeline's. Python 3.8's own library.

Latency is that of whole answers, each on a connection of its own, with the time to connect. What only the
model's own container can tell (cold start, memory) is asked of the program ``measured`` beside the model.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from math import ceil
from threading import Lock
from time import monotonic

from pipelines.in_engine.check_http import NoAnswerError, Target
from pipelines.in_engine.check_rung import MOST_SILENT, MOST_TOLD, Context, Failure, Piece
from pipelines.in_engine.check_samples import Sample, good_samples

LATENCIES = {"p50_ms": 0.5, "p95_ms": 0.95}


@dataclass
class Load:
    """A load under way: what was answered in what time, and what went wrong."""

    latencies: list[float] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    silent: int = 0
    lock: Lock = field(default_factory=Lock)

    def answered(self, seconds: float) -> None:
        """One more good answer."""
        with self.lock:
            self.latencies.append(seconds)

    def failed(self, sample: Sample, message: str, *, silent: bool) -> None:
        """One more that was none."""
        with self.lock:
            self.silent += silent
            self.failures.append(Failure(sample.line, sample.name, [message]))


def budgets(context: Context) -> Piece:
    """The figures that are wanted; those that can't be had with the reason. Fails only for errors."""
    wanted = context.plan["load"]
    figures: Piece = {}
    missing: Piece = {}
    result: Piece = {"ok": True, "figures": figures, "not_measured": missing}
    if wanted.get("again"):
        result["again"] = True
    if any(name in wanted["figures"] for name in LATENCIES):
        result.update(_under_load(context, wanted, figures, missing))
    if any(name in wanted["figures"] for name in ("cold_start_s", "memory_mb")):
        _ask_the_runner(context, wanted, figures, missing)
    said = [f"{name} {value:g}" for name, value in figures.items()]
    errors = result.get("load", {}).get("errors", 0)
    if not result["ok"]:
        said = [f"{errors} of {result['load']['requests']} requests under load failed"]
    result["detail"] = " · ".join(said) or "nothing could be measured"
    return result


def _under_load(context: Context, wanted: Piece, figures: Piece, missing: Piece) -> Piece:
    asked = good_samples(context)
    if not asked:
        why = "there is no golden case (or row of quality data) with a good answer to load the model with"
        missing.update({name: why for name in LATENCIES if name in wanted["figures"]})
        return {}
    for number in range(wanted["warmup"]):
        _send(context, asked[number % len(asked)], Load())
    start = monotonic()
    load = _run(context, asked, wanted)
    seconds = monotonic() - start
    ordered = sorted(load.latencies)
    for name, part in LATENCIES.items():
        if name in wanted["figures"] and ordered:
            figures[name] = round(1000 * ordered[ceil(part * len(ordered)) - 1], 3)
        elif name in wanted["figures"]:
            missing[name] = "no request under load was answered"
    errors, requests = len(load.failures), len(load.failures) + len(ordered)
    told = {"requests": requests, "errors": errors, "seconds": round(seconds, 3)}
    return {
        "ok": errors <= wanted["errors"],
        "load": {**told, "concurrency": wanted["concurrency"]},
        "file": asked[0].file,
        "failures": load.failures[:MOST_TOLD],
    }


def _run(context: Context, asked: list[Sample], wanted: Piece) -> Load:
    load, ticket, until = Load(), count(), monotonic() + wanted["seconds"]

    def lane() -> None:
        while monotonic() < until and load.silent < MOST_SILENT * wanted["concurrency"]:
            number = next(ticket)
            if number >= wanted["requests"]:
                return
            _send(context, asked[number % len(asked)], load)

    with ThreadPoolExecutor(wanted["concurrency"]) as pool:
        for done in [pool.submit(lane) for _ in range(wanted["concurrency"])]:
            done.result()
    return load


def _send(context: Context, sample: Sample, load: Load) -> None:
    request = sample.request
    start = monotonic()
    try:
        answer = context.target.ask(request.method, request.path, request.headers, request.body)
    except NoAnswerError as err:
        load.failed(sample, str(err), silent=True)
        return
    seconds = monotonic() - start
    if answer.status == sample.status:
        load.answered(seconds)
    else:
        load.failed(sample, f"status is {answer.status}, expected {sample.status}", silent=False)


def _ask_the_runner(context: Context, wanted: Piece, figures: Piece, missing: Piece) -> None:
    """Cold start and memory, as the program beside the model has them."""
    names = [name for name in ("cold_start_s", "memory_mb") if name in wanted["figures"]]
    why = ""
    told: Piece = {}
    try:
        told = json.loads(Target(context.plan["host"], wanted["runner_port"], 10).ask("GET", "/figures").body)
    except (NoAnswerError, ValueError) as err:
        why = f"nothing measures in the model's container, which needs python3 for that ({err})"
    for name in names:
        if told.get(name) is not None:
            figures[name] = told[name]
        else:
            missing[name] = why or told.get("why", {}).get(name) or "it was not seen"
