"""Git: repositories and their refs. A repository is asked for its refs when it is named, once per session."""

from __future__ import annotations

from dataclasses import replace

from embedded_engine.content import by_content
from embedded_engine.git_refs import Found, is_commit
from embedded_engine.git_sources import Wanted
from embedded_engine.git_urls import candidates
from embedded_engine.git_values import GitRef, GitRepository
from embedded_engine.op_git import GitTree
from embedded_engine.operations import TreeLeaf
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.runtime.git import GitFailed
from embedded_engine.values import Directory, Secret, Service, Socket

fields = Fields()


@fields("Query.git")
async def git(
    call: Call,
    _: None,
    *,
    url: str,
    ssh_known_hosts: str,
    http_auth_username: str,
    ssh_auth_socket: str | None = None,
    http_auth_token: str | None = None,
    http_auth_header: str | None = None,
    experimental_service_host: str | None = None,
) -> GitRepository:
    """A remote repository; without a protocol https is tried, then ssh."""
    objects = call.session.objects
    given = GitRepository(
        known_hosts=ssh_known_hosts,
        socket=objects.get(Socket, ssh_auth_socket) if ssh_auth_socket else None,
        username=http_auth_username,
        token=objects.get(Secret, http_auth_token) if http_auth_token else None,
        header=objects.get(Secret, http_auth_header) if http_auth_header else None,
        service=objects.get(Service, experimental_service_host) if experimental_service_host else None,
    )
    found = candidates(url)
    for one in found:
        repository = replace(given, url=one.text, username=given.username or one.username)
        if one.password and given.token is None and given.header is None:
            secret = call.session.secrets.put(f"git password of {one.origin}", one.password)
            repository = replace(repository, token=secret)
        try:
            await call.session.git.refs(call.session.evaluator, repository)
        except GitFailed as failure:
            if one is found[-1] or not failure.unauthorised:
                raise
        else:
            return repository
    raise AssertionError("a URL has at least one meaning")


@fields("Directory.asGit")
async def as_git(call: Call, directory: Directory) -> GitRepository:
    """The repository a directory holds (in .git, or the directory itself if it is bare)."""
    repository = GitRepository(directory=await by_content(call.session.evaluator, directory))
    await call.session.git.refs(call.session.evaluator, repository)
    return repository


@fields("GitRepository.url")
def url(_: Call, repository: GitRepository) -> str | None:
    """The remote's URL without credentials; a directory's repository has none."""
    return repository.url or None


async def _ref(call: Call, repository: GitRepository, name: str) -> GitRef:
    found = (await call.session.git.refs(call.session.evaluator, repository)).lookup(name)
    return _of(repository, found)


def _of(repository: GitRepository, found: Found) -> GitRef:
    return GitRef(repository, found.name, found.commit)


@fields("GitRepository.head")
async def head(call: Call, repository: GitRepository) -> GitRef:
    """What HEAD is."""
    return await _ref(call, repository, "HEAD")


@fields("GitRepository.ref")
async def ref(call: Call, repository: GitRepository, *, name: str) -> GitRef:
    """A ref by its full or short name, or a commit by its id."""
    return await _ref(call, repository, name)


@fields("GitRepository.branch")
async def branch(call: Call, repository: GitRepository, *, name: str) -> GitRef:
    """A branch."""
    return await _ref(call, repository, "refs/heads/" + name.removeprefix("refs/heads/"))


@fields("GitRepository.tag")
async def tag(call: Call, repository: GitRepository, *, name: str) -> GitRef:
    """A tag, as the commit it stands for."""
    return await _ref(call, repository, "refs/tags/" + name.removeprefix("refs/tags/"))


@fields("GitRepository.commit")
def commit(_: Call, repository: GitRepository, *, id: str) -> GitRef:  # noqa: A002  # the schema's name
    """A commit by its whole id; whether it is there shows when it is used."""
    if not is_commit(id):
        raise ApiError(f'invalid commit SHA: "{id}"')
    return GitRef(repository, "", id)


@fields("GitRepository.latestVersion")
async def latest_version(call: Call, repository: GitRepository) -> GitRef:
    """The tag with the highest semantic version."""
    refs = await call.session.git.refs(call.session.evaluator, repository)
    return _of(repository, refs.latest_version())


@fields("GitRepository.branches")
async def branches(call: Call, repository: GitRepository, *, patterns: list[str] | None = None) -> list[str]:
    """The branches' names."""
    return (await call.session.git.refs(call.session.evaluator, repository)).branches(patterns or ())


@fields("GitRepository.tags")
async def tags(call: Call, repository: GitRepository, *, patterns: list[str] | None = None) -> list[str]:
    """The tags' names."""
    return (await call.session.git.refs(call.session.evaluator, repository)).tags(patterns or ())


@fields("GitRef.ref")
def ref_name(_: Call, ref: GitRef) -> str:
    """The full name, or the commit's id if it was found by that."""
    return ref.name or ref.commit


@fields("GitRef.commit")
def ref_commit(_: Call, ref: GitRef) -> str:
    """The commit's id."""
    return ref.commit


@fields("GitRef.tree")
async def tree(
    call: Call, ref: GitRef, *, discard_git_dir: bool, depth: int, include_tags: bool
) -> Directory:
    """The commit's files, by content."""
    wanted = Wanted(not discard_git_dir, depth, include_tags and not discard_git_dir)
    outcome = await call.session.evaluator.result(GitTree(ref, wanted, call.session.git))
    assert outcome.tree is not None  # noqa: S101  # a git tree's outcome has one
    return Directory(TreeLeaf(outcome.tree))


@fields("GitRef.commonAncestor")
async def common_ancestor(call: Call, ref: GitRef, *, other: str) -> GitRef:
    """The best common ancestor, as a commit of this ref's repository."""
    second = call.session.objects.get(GitRef, other)
    return await call.session.git.common_ancestor(call.session.evaluator, ref, second)
