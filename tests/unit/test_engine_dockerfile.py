"""Which images a Dockerfile stands on."""

from __future__ import annotations

import pytest

from embedded_engine.dockerfile import base_images, ignore_patterns, instructions

TWO_STAGES = """\
# syntax=docker/dockerfile:1
ARG VERSION=3.11
FROM --platform=linux/amd64 python:${VERSION}-slim AS build
RUN --mount=type=bind,from=tools:1,target=/t echo "FROM nothing"
COPY --from=build /a /b
FROM build AS tests
FROM scratch
COPY --from=0 /x /y
COPY --from=busybox:1 /bin/sh /sh
"""


def test_images_of_every_stage_with_arguments_filled_in() -> None:
    assert base_images(TWO_STAGES, {}) == ("python:3.11-slim", "tools:1", "busybox:1")
    assert base_images(TWO_STAGES, {"VERSION": "3.12"})[0] == "python:3.12-slim"


def test_stages_after_the_target_do_not_count() -> None:
    assert base_images(TWO_STAGES, {}, "tests") == ("python:3.11-slim", "tools:1")


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("ARG BASE\nFROM ${BASE:-debian:12}", "debian:12"),
        ("FROM \\\n  debian:12\n", "debian:12"),
        ("# a comment\n\nfrom debian:12 as x", "debian:12"),
        ("# escape=`\nFROM `\n debian:12", "debian:12"),
    ],
)
def test_spellings(text: str, image: str) -> None:
    assert base_images(text, {}) == (image,)


def test_a_heredoc_is_no_instruction() -> None:
    text = "FROM a\nRUN <<EOF\nFROM b\nEOF\nFROM c\n"
    assert [word for word, _ in instructions(text)] == ["FROM", "RUN", "FROM"]
    assert base_images(text, {}) == ("a", "c")


def test_ignore_file_without_comments() -> None:
    assert ignore_patterns("\ufeff# x\n\n*.pyc\n  !keep.pyc  \n") == ["*.pyc", "!keep.pyc"]
