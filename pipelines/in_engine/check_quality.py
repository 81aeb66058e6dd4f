"""The rung "quality": a metric over a data file, from the model's real answers. Python 3.8's own library."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines.in_engine.check_cases import Row, is_number, kind, quality_rows
from pipelines.in_engine.check_compare import shown
from pipelines.in_engine.check_http import Answer, NoAnswerError
from pipelines.in_engine.check_metrics import METRICS, NUMERIC, UndefinedMetricError, same
from pipelines.in_engine.check_rung import MOST_SILENT, MOST_TOLD, Context, Failure, Piece


def quality(context: Context) -> Piece:
    """The metric over the data, and whether it keeps its limit."""
    wanted = context.plan["quality"]
    metric = wanted["metric"]
    file = context.files / wanted["data"]
    rows = quality_rows(file.read_text("utf-8"), wanted["path"], numbers=metric in NUMERIC)
    predictions, failures = _predictions(context, rows, file.parent, wanted)
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
    return {**result, "ok": ok, "value": value, "detail": f"{metric} {value:.3f}", "wrong": wrong[:MOST_TOLD]}


def _predictions(
    context: Context, rows: list[Row], directory: Path, wanted: Piece
) -> tuple[list[object], list[Failure]]:
    """The prediction for each row, and the rows that have none."""
    silent: list[int] = []

    def predict(row: Row) -> object:
        if len(silent) >= MOST_SILENT:
            return Failure(row.line, row.name, ["not asked: the model had stopped answering"])
        try:
            answer = context.send(row.request, directory)
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
