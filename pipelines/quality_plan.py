"""What the quality rung will ask: read and held on our side, before anything is built."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.config import Model
from pipelines.config_quality import Quality
from pipelines.errors import ConfigError, Place
from pipelines.quality_data import Data, read_data
from pipelines.quality_memo import Memo, quality_directory, replace_file
from pipelines.quality_table import METRICS, Answers
from pipelines.registries.descriptors import sha256
from pipelines.values import JSON


@dataclass(frozen=True, slots=True)
class QualityPlan:
    """The rows of one model's data, and where what is known of them is kept."""

    model: Model
    quality: Quality
    data: Data = field(repr=False)
    memo: Memo

    @property
    def files(self) -> list[str]:
        """The files that the requests send, relative to the model's directory."""
        directory = self.data.file.parent
        return sorted(
            (directory / name).relative_to(self.model.directory).as_posix() for name in self.data.bodies()
        )

    @property
    def longest_s(self) -> float:
        """An upper bound of the time, should every answer take as long as it may."""
        check = self.model.check
        waits = len(self.data.rows) / self.quality.concurrency + 2
        return check.start_timeout_s + waits * check.request_timeout_s

    def write_requests(self) -> Path:
        """The file with the requests, made where it is not there. Its name is its content's digest."""
        text = self.data.requests()
        path = self.memo.directory / f"requests-{sha256(text.encode()).removeprefix('sha256:')}.jsonl"
        if not path.exists():
            try:
                replace_file(path, text)
            except OSError as err:
                raise ConfigError(
                    f"{path} can't be written: {err.strerror}", hint="is the disk full?"
                ) from err
        return path

    def to_client(self, host: str, files: str, requests: str) -> dict[str, JSON]:
        """The client's plan. It has no limit and no metric: a change in those asks the model nothing."""
        check = self.model.check
        return {
            "host": host,
            "port": check.port,
            "health": check.health,
            "start_timeout_s": check.start_timeout_s,
            "request_timeout_s": check.request_timeout_s,
            "files": files,
            "quality": {
                "requests": f"{requests}/{self.write_requests().name}",
                "data": self.quality.data,
                "path": self.quality.path or check.path,
                "answer": self.quality.answer,
                "concurrency": self.quality.concurrency,
            },
        }

    def key(self, digest: str, programs: str) -> dict[str, Any]:
        """What the answers of the image ``digest`` depend on. Any: JSON."""
        bodies = hashlib.sha256()
        for name in self.files:
            with (self.model.directory / name).open("rb") as file:
                bodies.update(hashlib.file_digest(file, "sha256").digest())
        return {
            "answers_of": digest,
            "plan": self.to_client("", "", ""),
            "programs": sha256(programs.encode()),
            "bodies": bodies.hexdigest(),
        }


def plan_quality(model: Model) -> QualityPlan:
    """Read the data of ``model``'s section ``quality``, and hold that its metric can be computed.

    Raises:
        ConfigError: the file, a row or the metric is wrong, with its place.
    """
    quality = model.check.quality
    if quality is None:
        raise ValueError(f"{model.name} has no section quality")
    directory = quality_directory(model.directory)
    data = read_data(model.directory, quality, quality.path or model.check.path, directory)
    plan = QualityPlan(model, quality, data, Memo(directory))
    _hold_metric(plan)
    return plan


def _hold_metric(plan: QualityPlan) -> None:
    """Compute the metric of what is right by itself: an option that it does not take is told before a build.

    Once for each data and options: then scikit-learn is not imported.
    """
    from pipelines.in_engine.check_metrics import UndefinedMetricError  # noqa: PLC0415
    from pipelines.quality_metrics import Column, MetricProblem, metric_of  # noqa: PLC0415

    quality = plan.quality
    known = METRICS.get(quality.metric)

    def holds() -> bool:
        metric = metric_of(quality)
        if quality.compares in (Answers.CLASSES, Answers.NUMBERS):
            with suppress(UndefinedMetricError):  # the rung tells, if it is so for the answers too
                metric.compute(Column(plan.data.expected, plan.data.expected))
        return True

    try:
        if known is not None and known.built_in:
            metric_of(quality)
            return
        from pipelines.quality_sklearn import hold_installed  # noqa: PLC0415

        hold_installed(quality)
        plan.memo.of(
            {
                "holds": quality.metric,
                "options": quality.options,
                "compares": quality.compares.value,
                "expected": plan.data.expected,
            },
            holds,
        )
    except MetricProblem as err:
        raise ConfigError(str(err), place=Place(plan.model.file), hint=err.hint) from err
