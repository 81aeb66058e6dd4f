"""The quality rung on the embedded engine: real answers, and the published version."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagger
import pytest
from dagger import dag
from registry_process import running_registry
from test_check_engine import Home, connected, home

from pipelines.config import Check, Model, Tools
from pipelines.config_build import DockerfileBuild
from pipelines.published import CouldNotTell, Published, PublishedSource, nothing_published, published_in
from pipelines.registries.credentials import login_source
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.layout import ImageLayout
from pipelines.registries.oci import OciRegistry
from pipelines.registries.reference import Repository
from pipelines.stages.check_quality import quality_rung
from pipelines.stages.check_report import Rung
from pipelines.stages.export import export

__all__ = ["home"]
pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.registry]

SERVE = """
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
BORDER = float(os.environ["BORDER"])
class Model(BaseHTTPRequestHandler):
    def do_GET(self):
        self.say(200, {"status": "ok"})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["n"] < 0:
            return self.say(422, {"error": "negative"})
        high = asked["n"] > BORDER
        self.say(200, {"high": high, "p": {"true": 0.9 if high else 0.2, "false": 0.1 if high else 0.8}})
    def say(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *args):
        pass
ThreadingHTTPServer(("", 8080), Model).serve_forever()
"""
CSV = "n,kind,high\n" + "".join(
    f"{n},{'even' if n % 2 == 0 else 'odd'},{str(n > 50).lower()}\n" for n in range(100)
)
QUALITY = {
    "data": "rows.csv",
    "request": {"json": {"n": "{n:number}"}},
    "expected": "high",
    "metric": "accuracy",
    "answer": "high",
    "at_least": 0.8,
}


@dataclass(frozen=True)
class Bench:
    home: Home
    directory: Path
    registry: str

    def model(self, **quality: Any) -> Model:
        self.directory.joinpath("rows.csv").write_text(CSV)
        check = {"quality": {**QUALITY, **quality}}
        return self.of(Check.model_validate(check))

    def of(self, check: Check) -> Model:
        return Model(
            name="m",
            directory=self.directory,
            file=self.directory / "modelport.yaml",
            check=check,
            build=DockerfileBuild(),
            tools=Tools(image=self.home.base),
        )

    def image(self, border: float = 50) -> dagger.Container:
        base = dag.container().from_(self.home.base)
        served = base.with_new_file("/app/serve.py", SERVE).with_workdir("/app").with_user("10001:10001")
        return served.with_env_variable("BORDER", str(border)).with_default_args(["python", "serve.py"])

    async def published(self, image: dagger.Container, name: str = "m") -> PublishedSource:
        """``image`` as the version under a tag of a registry."""
        await image.publish(f"{self.registry}/models/{name}:latest")
        repository = Repository.parse(f"{self.registry}/models/{name}")
        registry = OciRegistry(repository, login_source(repository, {}), read_only=True)
        return fixed(await published_in(registry, "latest", ImageLayout.create(self.directory / "layout")))


def fixed(published: Published | None) -> PublishedSource:
    async def source() -> Published | None:
        return published

    return source


async def asked(
    image: dagger.Container, model: Model, published: PublishedSource = nothing_published
) -> Rung:
    served = image.with_exposed_port(model.check.port, experimental_skip_healthcheck=True)
    service = served.as_service(use_entrypoint=True)
    try:
        return await quality_rung(service, model, published)
    finally:
        await service.stop(kill=True)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running.host


@pytest.fixture
async def bench(home: Home, registry: str, tmp_path: Path) -> AsyncIterator[Bench]:
    home.events.write_text("")
    async with connected(home, tmp_path):
        yield Bench(home, tmp_path, registry)


async def test_columns_become_requests_and_slices_are_held(bench: Bench) -> None:
    rung = await asked(bench.image(54), bench.model(slices={"by": "kind", "at_least": 0.97}))
    assert not rung.ok
    assert rung.detail == "accuracy 0.960 over the 50 rows of kind=even is below 0.97 (and 1 more slices)"
    assert rung.facts["value"] == 0.96
    assert rung.facts["failures"][0] == {
        "line": 53,
        "name": "",
        "messages": ['predicted false, expected "true"'],
        "more": 0,
    }
    assert str(rung.facts["measured"]).startswith("accuracy 0.960 [0.9")


async def test_a_changed_limit_or_metric_asks_the_model_nothing(bench: Bench) -> None:
    pytest.importorskip("sklearn", reason="needs modelport[metrics]")
    first = await asked(bench.image(54), bench.model())
    assert first.ok, first.detail
    bench.home.events.write_text("")
    async with connected(bench.home, bench.directory):
        strict = await asked(bench.image(54), bench.model(at_least=0.99))
        other = await asked(bench.image(54), bench.model(metric="balanced_accuracy_score"))
    assert strict.detail == "accuracy 0.960 over 100 rows is below 0.99"
    assert other.detail.startswith("balanced_accuracy_score 0.959")
    assert bench.home.executed() == []


async def test_probabilities_of_classes_are_judged_by_scikit_learn(bench: Bench) -> None:
    pytest.importorskip("sklearn", reason="needs modelport[metrics]")
    model = bench.model(metric="log_loss", answer="p", at_least=None, at_most=0.5)
    rung = await asked(bench.image(50), model)
    assert rung.ok, rung.detail
    # 49 rows are answered with 0.9 for what is right, 51 with 0.8.
    assert rung.facts["value"] == pytest.approx(0.1654, abs=1e-3)


async def test_a_row_without_a_prediction_is_no_wrong_answer(bench: Bench) -> None:
    model = bench.model()
    bench.directory.joinpath("rows.csv").write_text(CSV + "-1,odd,false\n")
    rung = await asked(bench.image(), model)
    assert not rung.ok
    assert rung.detail == "accuracy not known: 1 row of 101 without a prediction"
    assert rung.facts["failures"][0]["line"] == 102
    assert "status is 422" in rung.facts["failures"][0]["messages"][0]


async def test_nothing_published_is_told_and_a_silent_registry_is_no_pass(bench: Bench) -> None:
    model = bench.model(no_worse_than="published")
    rung = await asked(bench.image(), model)
    assert rung.ok
    assert "nothing published to compare with" in rung.detail

    async def silent() -> Published | None:
        raise CouldNotTell("registry.example.com did not answer within 15 s")

    rung = await asked(bench.image(), model, silent)
    assert not rung.ok
    assert "can't be compared with the published version: registry.example.com did not answer" in rung.detail


async def test_the_published_version_in_a_registry_is_asked_once(bench: Bench) -> None:
    model = bench.model(no_worse_than="published")
    published = await bench.published(bench.image(50), "once")
    worse = await asked(bench.image(60), model, published)
    assert not worse.ok
    assert worse.detail.startswith("accuracy 0.900 is worse than 1.000 of the published latest by 0.100 [0.0")
    assert "; the published version was right" in worse.facts["failures"][0]["messages"][0]
    bench.home.events.write_text("")
    async with connected(bench.home, bench.directory):
        again = await asked(bench.image(60), model, published)
    assert again.detail == worse.detail
    assert bench.home.executed() == []


async def test_the_published_version_in_a_layout_runs_too(bench: Bench) -> None:
    layout = ImageLayout.create(bench.directory / "layout")
    built = await export(bench.image(60), layout)
    layout.set_tag("latest", built.manifest)
    published = await published_in(LayoutRegistry(layout), "latest", layout)
    rung = await asked(bench.image(50), bench.model(no_worse_than="published"), fixed(published))
    assert rung.ok
    assert rung.detail.startswith("accuracy 1.000 [1.000, 1.000] (≥ 0.8; published 0.900)")


async def test_a_published_version_that_does_not_serve_is_no_pass(bench: Bench) -> None:
    broken = bench.image().with_default_args(["python", "-c", "raise SystemExit('no weights')"])
    published = await bench.published(broken, "broken")
    rung = await asked(bench.image(), bench.model(no_worse_than="published"), published)
    assert not rung.ok
    assert "can't be compared with the published version" in rung.detail
