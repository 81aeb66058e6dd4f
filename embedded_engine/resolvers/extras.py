"""Patches, errors by request, and what a terminal (which only Dagger's engine has) would start with."""

from __future__ import annotations

from typing import TypeVar

from embedded_engine.directories import edited
from embedded_engine.patches import Patched
from embedded_engine.resolvers.container_exec import refuse_privileges
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.tree_changes import NewFile
from embedded_engine.values import Container, Directory, File

fields = Fields()
V = TypeVar("V", Container, Directory)


@fields("Directory.withPatch")
def with_patch(call: Call, directory: Directory, *, patch: str) -> Directory:
    """The directory with a patch (a unified diff, as git makes it) applied."""
    written = edited(Directory(), NewFile("patch", patch.encode()))
    return edited(directory, Patched(File(written.source, "/patch"), call.session.git.git))


@fields("Directory.withPatchFile")
def with_patch_file(call: Call, directory: Directory, *, patch: str) -> Directory:
    """The directory with the patch in a file applied."""
    return edited(directory, Patched(call.session.objects.get(File, patch), call.session.git.git))


@fields("Container.withError", "Directory.withError")
def with_error(_: Call, value: V, *, err: str) -> V:
    """Fails with ``err``; without one nothing happens."""
    if err:
        raise ApiError(err)
    return value


@fields("Container.withDefaultTerminalCmd")
def with_default_terminal_cmd(
    _: Call,
    container: Container,
    *,
    args: list[str],
    experimental_privileged_nesting: bool,
    insecure_root_capabilities: bool,
) -> Container:
    """The same container: only a terminal would look at this, and that is refused by name."""
    refuse_privileges(
        "Container.withDefaultTerminalCmd", experimental_privileged_nesting, insecure_root_capabilities
    )
    return container
