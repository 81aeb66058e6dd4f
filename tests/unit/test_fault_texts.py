"""Faults as they are written: what they mean, and what is refused."""

from __future__ import annotations

import pytest

from tests.registries.faults import Fault, Script

PATH = "/v2/m/blobs/uploads/x"


def struck(text: str, *requests: tuple[str, str]) -> list[int]:
    """The numbers of the requests that the fault is for."""
    script = Script([Fault.parse(text)])
    return [number for number, one in enumerate(requests, start=1) if script.next(*one)[1]]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("503@2", [2]),
        ("cut@2-3", [2, 3]),
        ("cut-body@5-", [5, 6]),
        ("500@%2", [2, 4, 6]),
        ("429:2@*", [1, 2, 3, 4, 5, 6]),
        ("416@PATCH", [3, 5]),
        ("503@PATCH#2", [5]),
        ("503@/uploads/#2-3", [3, 5]),
        ("503@POST/uploads/", [2]),
        ("immutable@*", [4]),
        ("416@*", [3, 5]),
    ],
)
def test_which_requests(text: str, numbers: list[int]) -> None:
    requests = [
        ("HEAD", "/v2/m/manifests/1"),
        ("POST", "/v2/m/blobs/uploads/"),
        ("PATCH", PATH),
        ("PUT", "/v2/m/manifests/1"),
        ("PATCH", PATH),
        ("PUT", "/v2/m/manifests/sha256:0"),
    ]
    assert struck(text, *requests) == numbers


def test_a_value() -> None:
    fault = Fault.parse("429:7@1")
    assert (fault.kind.name, fault.value) == ("429", "7")


@pytest.mark.parametrize("text", ["503", "600@1", "503@", "503@0", "503@x", "503@1-b", "503@%0", "503@PUT#"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no |says no moment"):
        Fault.parse(text)
