"""The image config: read, changed and written without loss."""

from __future__ import annotations

import pytest

from embedded_engine.elements import Port
from embedded_engine.image_config import (
    ImageConfig,
    config_section,
    format_ns,
    parse_config,
    parse_duration,
    with_pair,
    without_pair,
)
from embedded_engine.image_out import Form, composed
from embedded_engine.runtime.port import JSON, LayerBlob
from embedded_engine.values import Container

DOCUMENT: dict[str, JSON] = {
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "Env": ["PATH=/bin", "EMPTY=", "EQ=a=b"],
        "Entrypoint": ["/run"],
        "Cmd": ["x"],
        "User": "1000:1000",
        "WorkingDir": "/app",
        "Labels": {"b": "2", "a": "1"},
        "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 90_000_000_000, "Retries": 3},
    },
    "history": [{"created_by": "base"}],
}


def test_what_is_read_is_written_again() -> None:
    section = config_section(parse_config(DOCUMENT))
    assert section == DOCUMENT["config"]


def test_variables_keep_their_place_when_changed() -> None:
    pairs = (("A", "1"), ("B", "2"))
    assert with_pair(pairs, "A", "3") == (("A", "3"), ("B", "2"))
    assert with_pair(pairs, "C", "3")[-1] == ("C", "3")
    assert without_pair(pairs, "A") == (("B", "2"),)


def test_expansion_leaves_nothing_of_unknown_variables() -> None:
    config = ImageConfig(env=(("A", "x"), ("B_1", "y")))
    assert config.expanded("$A-${B_1}-$NO-${NO}.") == "x-y--."


@pytest.mark.parametrize(
    ("path", "absolute"),
    [("a", "/app/a"), ("/a/./b/../c/", "/a/c"), ("../..", "/"), (".", "/app"), ("/", "/")],
)
def test_paths_are_relative_to_the_working_directory(path: str, absolute: str) -> None:
    assert ImageConfig(workdir="/app").path(path) == absolute


@pytest.mark.parametrize(
    ("text", "ns"),
    [("30s", 30 * 10**9), ("1m30s", 90 * 10**9), ("250ms", 25 * 10**7), ("", 0), ("1h", 36 * 10**11)],
)
def test_durations(text: str, ns: int) -> None:
    assert parse_duration(text) == ns
    assert parse_duration(format_ns(ns)) == ns


def test_a_bad_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration("3 parsecs")


LAYER = LayerBlob("sha256:d1", "sha256:b1", 10, None)  # type: ignore[arg-type]  # no file is read here


def test_the_same_container_gives_the_same_manifest_and_every_part_of_the_config_counts() -> None:
    container = Container("linux/amd64", parse_config(DOCUMENT))
    first = composed(container, [LAYER], Form(1_700_000_000))
    assert composed(container, [LAYER], Form(1_700_000_000)) == first
    assert composed(container, [LAYER], Form(1_700_000_001)).digest != first.digest
    labelled = container.having(config=container.config.having(labels=(("x", "y"),)))
    assert composed(labelled, [LAYER], Form(1_700_000_000)).digest != first.digest
    noted = container.having(config=container.config.having(annotations=(("x", "y"),)))
    assert composed(noted, [LAYER], Form(1_700_000_000)).config == first.config
    assert b'"annotations":{"x":"y"}' in composed(noted, [LAYER], Form(1_700_000_000)).manifest


def test_history_has_an_entry_for_each_layer_of_ours_after_the_bases() -> None:
    container = Container("linux/arm64/v8", parse_config(DOCUMENT).having(ports=(Port(80),)))
    config = composed(container, [LAYER, LAYER, LAYER], Form(0)).config.decode()
    assert config.count("embedded-engine") == 2
    assert '"created_by":"base"' in config
    assert '"architecture":"arm64"' in config
    assert '"variant":"v8"' in config
