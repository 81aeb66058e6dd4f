"""Working containers that a killed `buildah from` left half made: in storage, but not yet described.

Buildah 1.28 describes a container in a file of its own, after storage knows it. One without that file is
taken for an image's container; on the empty file system there is no image, and `buildah rm` refuses it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection

from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.runtime.state import State

_KIND = "buildah 0.0.1"  # what Buildah writes as the file's type, whatever its own version


def describe(state: State, wanted: Collection[str]) -> None:
    """Give each of these containers (names or ids) that lacks its description the least that lets
    `buildah rm` remove it. They must not be in anybody's making."""
    try:
        known = state.containers()
    except RuntimeFailure:
        return  # a damaged index: the next session sets it aside
    for identity, name in known:
        if name not in wanted and identity not in wanted:
            continue
        file = state.storage / f"{state.driver}-containers" / identity / "userdata" / "buildah.json"
        try:
            if json.loads(file.read_bytes())["container-id"] == identity:
                continue
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not there, or half written
        with contextlib.suppress(OSError):  # a full disk: a later session tries again
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"type": _KIND, "container-id": identity, "container-name": name}))
