"""Climbs the check's ladder against a running model: starts, healthy, golden cases, quality.

``python3 -m pipelines.in_engine.check_client PLAN`` prints one line of JSON, the report, and ends with 1 when
a rung failed: so no engine keeps that answer. PLAN is a JSON file (pipelines.stages.check writes it). The
standard library only, Python 3.8.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Callable, Dict  # noqa: UP035  # Python 3.8 runs it

from pipelines.in_engine.check_cases import Case, Request, Row, golden_cases, is_number, kind, quality_rows
from pipelines.in_engine.check_compare import case_differences, shown
from pipelines.in_engine.check_http import Answer, NoAnswerError, Target
from pipelines.in_engine.check_metrics import METRICS, NUMERIC, UndefinedMetricError, same

Piece = Dict[str, Any]  # noqa: UP006  # JSON: a piece of the plan or of the report

MOST_TOLD = 20
"""Failures told one by one: an engine keeps only the last 100 kB of a failed exec's output."""
MOST_SILENT = 3
"""After so many cases without any answer the rest is not asked: each could take its whole time."""


class Failure(Piece):
    """One thing that is wrong: ``line`` of the file, ``name`` of the case, ``messages``."""

    def __init__(self, line: int, name: str, messages: list[str]) -> None:
        super().__init__(
            line=line,
            name=name,
            messages=[message[:600] for message in messages[:5]],
            more=max(0, len(messages) - 5),
        )


class Client:
    """One climb."""

    def __init__(self, plan: Piece, files: Path) -> None:
        self.plan = plan
        self.files = files
        self.target = Target(plan["host"], plan["port"], plan["request_timeout_s"])

    def climb(self) -> Piece:
        """The report: the rungs in order, up to the first that failed."""
        rungs = [("starts", self.starts), ("healthy", self.healthy)]
        if self.plan.get("golden"):
            rungs.append(("golden", self.golden))
        if self.plan.get("quality"):
            rungs.append(("quality", self.quality))
        report = []
        self.began = monotonic()
        for name, rung in rungs:
            start = monotonic()
            result = {"name": name, **rung()}
            result["seconds"] = round(monotonic() - start, 3)
            report.append(result)
            if not result["ok"]:
                break
        return {"schema": 1, "ok": all(rung["ok"] for rung in report), "rungs": report}

    def starts(self) -> Piece:
        """The port accepts."""
        ok = self.until(self.target.connects)
        where = f"port {self.plan['port']}"
        return {
            "ok": ok,
            "detail": where if ok else f"{where} did not open within {self.plan['start_timeout_s']:g} s",
        }

    def healthy(self) -> Piece:
        """The health path answers 200."""
        path, last = self.plan["health"], ""

        def answers() -> bool:
            nonlocal last
            try:
                answer = self.target.ask("GET", path)
            except NoAnswerError as err:
                last = str(err)
                return False
            last = f"status {answer.status}: {shown(answer.body[:200].decode('utf-8', 'replace').strip())}"
            return answer.status == 200

        ok = self.until(answers)
        limit = self.plan["start_timeout_s"]
        return {
            "ok": ok,
            "detail": "healthy"
            if ok
            else f"GET {path} was not answered with 200 within {limit:g} s; the last: {last}",
        }

    def until(self, holds: Callable[[], bool]) -> bool:
        """Ask again and again until it holds or the model's time to start is over."""
        pause = 0.05
        while not holds():
            if monotonic() - self.began + pause > self.plan["start_timeout_s"]:
                return False
            sleep(pause)
            pause = min(pause * 1.5, 0.5)
        return True

    def golden(self) -> Piece:
        """Every golden case, one after the other: what one leaves behind may matter to the next."""
        file = self.files / self.plan["golden"]
        cases = golden_cases(file.read_text("utf-8"), self.plan["path"])
        tolerances = {path: (float(a), float(r)) for path, (a, r) in self.plan["tolerance"].items()}
        failures, asked, silent = [], 0, 0
        for case in cases:
            asked += 1
            messages, answered = self.case(case, file.parent, tolerances)
            silent = 0 if answered else silent + 1
            if messages:
                failures.append(Failure(case.line, case.name, messages))
            if silent == MOST_SILENT:
                break
        passed = asked - len(failures)
        return {
            "ok": not failures,
            "detail": f"{passed} of {len(cases)} golden cases",
            "passed": passed,
            "total": len(cases),
            "not_asked": len(cases) - asked,
            "failures": failures[:MOST_TOLD],
        }

    def case(
        self, case: Case, directory: Path, tolerances: dict[str, tuple[float, float]]
    ) -> tuple[list[str], bool]:
        """What is wrong with one answer, and whether there was one."""
        try:
            answer = self.send(case.request, directory)
        except NoAnswerError as err:
            return [str(err)], False
        return case_differences(case, answer, tolerances, self.plan["ignore"]), True

    def send(self, request: Request, directory: Path) -> Answer:
        """Ask; the body may stand in a file."""
        body = request.body if request.body_file is None else (directory / request.body_file).read_bytes()
        return self.target.ask(request.method, request.path, request.headers, body)

    def quality(self) -> Piece:
        """The metric over the data, and whether it keeps its limit."""
        wanted = self.plan["quality"]
        metric = wanted["metric"]
        file = self.files / wanted["data"]
        rows = quality_rows(file.read_text("utf-8"), wanted["path"], numbers=metric in NUMERIC)
        predictions, failures = self.predictions(rows, file.parent, wanted)
        result = {
            "metric": metric,
            "rows": len(rows),
            "at_least": wanted["at_least"],
            "at_most": wanted["at_most"],
        }
        if failures:
            some = "1 row" if len(failures) == 1 else f"{len(failures)} rows"
            detail = f"{metric} not known: {some} of {len(rows)} without a prediction"
            return {**result, "ok": False, "value": None, "detail": detail, "failures": failures[:MOST_TOLD]}
        try:
            value = METRICS[metric]([row.expected for row in rows], predictions)
        except UndefinedMetricError as err:
            return {**result, "ok": False, "value": None, "detail": str(err), "failures": []}
        at_least, at_most = wanted["at_least"], wanted["at_most"]
        ok = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        wrong = [
            Failure(row.line, row.name, [f"predicted {shown(said)}, expected {shown(row.expected)}"])
            for row, said in zip(rows, predictions)  # noqa: B905
            if metric not in NUMERIC and not same(row.expected, said)
        ]
        return {
            **result,
            "ok": ok,
            "value": value,
            "detail": f"{metric} {value:.3f}",
            "wrong": wrong[:MOST_TOLD],
        }

    def predictions(
        self, rows: list[Row], directory: Path, wanted: Piece
    ) -> tuple[list[object], list[Failure]]:
        """The prediction for each row, and the rows that have none."""
        silent: list[int] = []

        def predict(row: Row) -> object:
            if len(silent) >= MOST_SILENT:
                return Failure(row.line, row.name, ["not asked: the model had stopped answering"])
            try:
                answer = self.send(row.request, directory)
            except NoAnswerError as err:
                silent.append(row.line)
                return Failure(row.line, row.name, [str(err)])
            try:
                return prediction(answer, wanted["answer"], numbers=wanted["metric"] in NUMERIC)
            except ValueError as err:
                return Failure(row.line, row.name, [str(err)])

        with ThreadPoolExecutor(wanted["concurrency"]) as pool:
            found = list(pool.map(predict, rows))
        return found, [item for item in found if isinstance(item, Failure)]


def prediction(answer: Answer, path: str, *, numbers: bool) -> object:
    """The value at ``path`` of the answer's JSON. Raises ValueError with a text for the user."""
    if answer.status != 200:
        said = shown(answer.body.decode("utf-8", "replace").strip())
        raise ValueError(f"status is {answer.status}, expected 200; the answer was {said}")
    value = answer.json()
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise ValueError(f'"{path}" is missing in the answer')
    if numbers and not is_number(value):
        raise ValueError(f'"{path}" is {kind(value)}, the metric needs a number')
    if not numbers and (value is None or isinstance(value, (dict, list, float))):
        raise ValueError(f'"{path}" is {kind(value)}; a class is a text, a whole number or true/false')
    return value


def main(arguments: list[str]) -> int:
    """Climb, tell, and say by the exit code whether the top was reached."""
    plan = json.loads(Path(arguments[0]).read_text("utf-8"))
    report = Client(plan, Path(plan["files"])).climb()
    print(json.dumps(report), flush=True)
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
