"""The scan stage: is the image safe? All scanners at once, then one decision, which is plain Python."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from pipelines.config import Model
from pipelines.config_scan import ScanPolicy
from pipelines.scanners.known import known_findings
from pipelines.scanners.places import placed
from pipelines.scanners.policy import NOTHING_KNOWN, KnownFindings, aged, judge
from pipelines.scanners.port import CouldNotLookError, ImageView, Scanner, ScannerName, ScannerResult
from pipelines.scanners.selection import scanners_of
from pipelines.scanners.view import EngineView
from pipelines.stages.scan_report import TITLES, ScanReport, blocked

if TYPE_CHECKING:
    import dagger

    from pipelines.published import PublishedSource
    from pipelines.release_image import BuiltImage

__all__ = ["TITLES", "ScanReport", "blocked", "decided", "look", "scan"]

SCANNER_LIMIT_S = 1200.0


async def scan(
    image: dagger.Container,
    model: Model,
    published: PublishedSource | None = None,
    exported: Callable[[], Awaitable[BuiltImage]] | None = None,
) -> ScanReport:
    """Scan the built image and apply the model's policy.

    ``exported`` is the image in the layout, for what is only seen in its layers; ``published`` the image of
    before, which is asked for only if something was found.

    Raises:
        ScanBlocked: the policy holds the image back; its ``report`` says everything that was found.
    """
    view, seconds = EngineView(image, model, exported), dict[ScannerName, float]()
    results = await placed(await look(view, scanners_of(model), model.scan, seconds), view, model)
    known = await known_findings(published) if any(one.findings for one in results) else NOTHING_KNOWN
    report = decided(results, model.scan, datetime.now(UTC).date(), known, seconds)
    if report.verdict.blocks:
        raise blocked(report, model)
    return report


def decided(
    results: Sequence[ScannerResult],
    policy: ScanPolicy,
    today: date,
    known: KnownFindings = NOTHING_KNOWN,
    seconds: Mapping[ScannerName, float] | None = None,
) -> ScanReport:
    """The report on ``results`` as of ``today``."""
    dated = tuple(aged(result, policy, today) for result in results)
    return ScanReport(dated, judge(dated, policy, today, known), policy, seconds or {})


async def look(
    image: ImageView,
    scanners: Sequence[Scanner],
    policy: ScanPolicy,
    seconds: dict[ScannerName, float] | None = None,
) -> list[ScannerResult]:
    """Run all ``scanners`` at once. One that has no answer is "not audited"; the others go on.

    ``seconds`` is told how long each took.
    """
    results: dict[ScannerName, ScannerResult] = {}
    began = monotonic()

    async def one(scanner: Scanner) -> None:
        try:
            with anyio.fail_after(SCANNER_LIMIT_S):
                result = await scanner.scan(image, policy)
        except CouldNotLookError as err:
            result = ScannerResult(scanner.name, audited=False, reason=str(err))
        except TimeoutError:
            reason = f"it took more than {SCANNER_LIMIT_S:.0f} seconds"
            result = ScannerResult(scanner.name, audited=False, reason=reason)
        network = scanner.network if result.network is None else result.network
        results[scanner.name] = replace(result, network=network)
        if seconds is not None:
            seconds[scanner.name] = monotonic() - began

    async with anyio.create_task_group() as tasks:
        for scanner in scanners:
            tasks.start_soon(one, scanner)
    return [results[scanner.name] for scanner in scanners]
