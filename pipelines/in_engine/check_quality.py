"""The model's answers to evaluation data: only collected here, what they are worth is judged outside.

``python3 -m pipelines.in_engine.check_quality PLAN`` prints one line of JSON: the value at ``answer`` of each
row's answer, in order; or the rows that have none, and ends with 1: so no engine keeps that. What would be
right is not even here, so new labels or limits ask the model nothing. Python 3.8's own library.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

from pipelines.in_engine.check_cases import Request, request_of
from pipelines.in_engine.check_compare import shown
from pipelines.in_engine.check_http import Answer, NoAnswerError
from pipelines.in_engine.check_ready import answers_healthy
from pipelines.in_engine.check_rung import MOST_SILENT, MOST_TOLD, Context, Failure, Piece

LARGEST_VALUE = 64 << 10
"""Bytes of one prediction: it is a class, a number, or a number for each class."""
LARGEST_REPORT = 64 << 20


class Asking:
    """One pass over the rows. Rows are the lines of ``requests``: line, name and request."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.wanted = context.plan["quality"]
        self.directory = (context.files / self.wanted["data"]).parent
        self.silent: list[int] = []
        self.size = 0

    def report(self, text: str) -> Piece:
        """All answers, or what is wrong with those that are missing."""
        ready, last = answers_healthy(self.context, self.context.target)
        if not ready:
            return {"ok": False, "error": f"the model is not healthy; the last answer: {last}"}
        start = monotonic()
        rows = [json.loads(line) for line in text.splitlines()]
        with ThreadPoolExecutor(self.wanted["concurrency"]) as pool:
            found = list(pool.map(self.prediction, rows))
        failures = [one for one in found if isinstance(one, Failure)]
        if failures:
            return {"ok": False, "without": len(failures), "failures": failures[:MOST_TOLD]}
        if self.size > LARGEST_REPORT:
            return {"ok": False, "error": f"the predictions have more than {LARGEST_REPORT >> 20} MB"}
        return {"ok": True, "answers": found, "seconds": round(monotonic() - start, 3)}

    def prediction(self, row: Piece) -> object:
        """What the model says to one row, or why there is nothing."""
        line, name = row["line"], row["name"]
        if len(self.silent) >= MOST_SILENT:
            return Failure(line, name, ["not asked: the model had stopped answering"])
        request: Request = request_of(line, row["request"], self.wanted["path"])
        try:
            answer = self.context.send(request, self.directory)
        except NoAnswerError as err:
            self.silent.append(line)
            return Failure(line, name, [str(err)])
        try:
            return self.measured(prediction(answer, self.wanted["answer"]))
        except ValueError as err:
            return Failure(line, name, [str(err)])

    def measured(self, value: object) -> object:
        """``value``, if it is not too big to be a prediction. Raises ValueError."""
        size = len(json.dumps(value))
        self.size += size
        if size > LARGEST_VALUE:
            raise ValueError(f'"{self.wanted["answer"]}" has {size} bytes: is it the prediction?')
        return value


def prediction(answer: Answer, path: str) -> object:
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
    return value


def main(arguments: list[str]) -> int:
    """Ask, tell, and say by the exit code whether every row has its answer."""
    plan = json.loads(Path(arguments[0]).read_text("utf-8"))
    requests = Path(plan["quality"]["requests"]).read_text("utf-8")
    report = Asking(Context.of(plan)).report(requests)
    print(json.dumps(report, ensure_ascii=False, separators=(",", ":")), flush=True)
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
