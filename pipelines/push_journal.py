"""What the pushes of one model leave for the next run, under ``.modelport/push/<model>/``.

The registries are the truth; the journal only tells where to go on: unfinished uploads, a release whose
naming had begun, and which repository of a host holds which blobs. A lost or damaged journal costs time,
never more. Each file is replaced whole, by rename. Only the run that holds the model's lock writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipelines.errors import PushFailed
from pipelines.registries.descriptors import is_digest, short
from pipelines.under_way import Phase, UnderWay, texts_of

if TYPE_CHECKING:
    from pipelines.stages.tag import Names

_RELEASES: Final = "releases.json"
_UPLOADS: Final = "uploads.json"
_BLOBS: Final = "blobs.json"
_SCHEMA: Final = 1
_MOST_RELEASES: Final = 8
_MOST_UPLOADS: Final = 64
"""For each repository."""
_UPLOAD_LIFE_S: Final = 7 * 24 * 3600
"""Registries purge unfinished uploads after about a week."""
_MOST_BLOBS: Final = 256
"""For each repository; the newest stay."""
_MOST_ORIGINS: Final = 2


@dataclass(slots=True)
class Journal:
    """The journal of one model. ``notes`` tells what of it could not be read."""

    directory: Path
    releases: tuple[UnderWay, ...] = ()
    uploads: dict[str, dict[str, tuple[str, float]]] = field(default_factory=dict, repr=False)
    """By repository and digest: the address of an unfinished upload (it may be signed), and its time."""
    blobs: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """By repository: digests of blobs that it was seen to hold."""
    notes: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, state: Path, model: str) -> Journal:
        """The journal of ``model`` under the state directory; it is empty where there is none yet."""
        journal = cls(state / "push" / model)
        journal.releases = journal._read(_RELEASES, _parse_releases, ())
        journal.uploads = journal._read(_UPLOADS, _parse_uploads, {})
        journal.blobs = journal._read(_BLOBS, _parse_blobs, {})
        return journal

    # The release under way

    def begin(self, digest: str, names: Names) -> tuple[str, ...]:
        """Note that the push of a release begins; what is to be told of earlier ones.

        Another release that never came to its names is forgotten. Raises PushFailed: it can't be written.
        """
        known = next((one for one in self.releases if one.digest == digest), None)
        others = tuple(one for one in self.releases if one.digest != digest and one.phase is Phase.NAMING)
        dropped = [one for one in self.releases if one.digest != digest and one not in others]
        now = datetime.now(UTC)
        entry = UnderWay(digest, names.version_tags, names.moving_tags, names.branch_tags, now)
        if known is not None:  # what was past the barrier stays so, with all the names that it had to get
            entry = replace(
                known,
                version_tags=_joined(known.version_tags, names.version_tags),
                moving_tags=_joined(known.moving_tags, names.moving_tags),
                branch_tags=_joined(known.branch_tags, names.branch_tags),
            )
        self.releases = (*others, entry)[-_MOST_RELEASES:]
        self._write_releases(lasting=False)
        notes = [f"continues the push of {known.when}, which ended in the middle"] if known else []
        notes += [
            f"the push of {one.when} ({short(one.digest)}) ended before it named anything" for one in dropped
        ]
        return tuple(notes)

    def past_barrier(self, digest: str, holders: Iterable[str]) -> None:
        """Note, before the first name is set, who holds the release whole. Raises PushFailed."""
        self._change(
            digest,
            lambda one: replace(one, phase=Phase.NAMING, holders=_joined(one.holders, holders), named=()),
        )
        self._write_releases(lasting=True)

    def named(self, digest: str, repository: str) -> None:
        """The naming in one registry has ended; when it has in all, the release is under way no more."""
        self._change(digest, lambda one: replace(one, named=_joined(one.named, (repository,))))
        if any(one.digest == digest and not one.unnamed for one in self.releases):
            self.forget(digest)
        else:
            self._try_to_write(_RELEASES, self._releases_json())

    def give_up(self, digest: str) -> None:
        """The release can't be named as it is; where its naming had begun, that stays to be finished."""
        if any(one.digest == digest and one.phase is Phase.BRINGING for one in self.releases):
            self.forget(digest)

    def forget(self, digest: str) -> None:
        """The release is under way no more."""
        self.releases = tuple(one for one in self.releases if one.digest != digest)
        self._try_to_write(_RELEASES, self._releases_json())

    def interrupted(self, going_on: str = "") -> tuple[UnderWay, ...]:
        """Releases whose naming had begun and has not ended, oldest first, without ``going_on``."""
        return tuple(
            one
            for one in self.releases
            if one.phase is Phase.NAMING and one.unnamed and one.digest != going_on
        )

    def _change(self, digest: str, change: Callable[[UnderWay], UnderWay]) -> None:
        self.releases = tuple(change(one) if one.digest == digest else one for one in self.releases)

    # Unfinished uploads

    def sessions(self, repository: str) -> RepositorySessions:
        """The UploadSessions of one repository."""
        return RepositorySessions(self, repository)

    def write_uploads(self) -> None:
        """Keep ``uploads``; a failure costs no more than an upload from its beginning."""
        uploads = {name: dict(list(found.items())[-_MOST_UPLOADS:]) for name, found in self.uploads.items()}
        self._try_to_write(_UPLOADS, {"repositories": {name: one for name, one in uploads.items() if one}})

    # Who holds which blobs

    def holds(self, repository: str, digests: Iterable[str]) -> None:
        """Note that a repository holds blobs."""
        known = dict.fromkeys((*self.blobs.get(repository, ()), *digests))
        newest = tuple(known)[-_MOST_BLOBS:]
        if newest != self.blobs.get(repository):
            self.blobs[repository] = newest
            self._try_to_write(
                _BLOBS, {"repositories": {name: list(one) for name, one in self.blobs.items()}}
            )

    def origins(self, repository: str) -> Callable[[str], tuple[str, ...]]:
        """For a blob: the paths of a few other repositories on the host of ``repository`` that hold it.

        Those of the other models that are released from here count, too: models share their bases.
        """
        host, _, path = repository.partition("/")
        found: dict[str, list[str]] = {}
        for name, digests in self._all_blobs():
            its_host, _, its_path = name.partition("/")
            if its_host == host and its_path != path:
                for digest in digests:
                    found.setdefault(digest, []).append(its_path)
        return lambda digest: tuple(found.get(digest, ())[:_MOST_ORIGINS])

    def _all_blobs(self) -> list[tuple[str, tuple[str, ...]]]:
        known = list(self.blobs.items())
        for file in sorted(self.directory.parent.glob(f"*/{_BLOBS}")):
            if file.parent != self.directory:
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                    known += _parse_blobs(json.loads(file.read_bytes())).items()
        return known

    # Files

    def _read(self, name: str, parse: Callable[[dict[str, Any]], Any], empty: Any) -> Any:
        """Any: the result is what ``parse`` makes, or ``empty`` of the same type."""
        path = self.directory / name
        try:
            return parse(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return empty
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.notes.append(f"{path} is damaged and was left out: what it told is found out anew")
            with contextlib.suppress(OSError):
                path.unlink()
            return empty

    def _releases_json(self) -> dict[str, Any]:
        return {"releases": [one.to_json() for one in self.releases]}

    def _write_releases(self, *, lasting: bool) -> None:
        try:
            self._write(_RELEASES, self._releases_json(), lasting=lasting)
        except OSError as err:
            raise PushFailed(
                f"{self.directory} can't be written: {err.strerror}",
                hint="make room or correct its rights: the push notes there what the next run has to finish",
            ) from err

    def _try_to_write(self, name: str, document: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._write(name, document, lasting=False)

    def _write(self, name: str, document: dict[str, Any], *, lasting: bool) -> None:
        """``lasting``: it is there after a power cut, too. The file is the owner's alone (mkstemp)."""
        self.directory.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".part-", dir=self.directory)
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({"schema": _SCHEMA, **document}, file)
                file.flush()
                if lasting:
                    os.fsync(file.fileno())
            Path(temporary).replace(self.directory / name)
            if lasting:
                _sync_directory(self.directory)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@dataclass(frozen=True, slots=True)
class RepositorySessions:
    """Unfinished uploads of one repository: UploadSessions of the registries' port."""

    journal: Journal = field(repr=False)
    repository: str

    def recall(self, digest: str) -> str:
        """See ``UploadSessions``."""
        return self.journal.uploads.get(self.repository, {}).get(digest, ("", 0.0))[0]

    def remember(self, digest: str, location: str) -> None:
        """See ``UploadSessions``."""
        self.journal.uploads.setdefault(self.repository, {})[digest] = (location, time.time())
        self.journal.write_uploads()

    def forget(self, digest: str) -> None:
        """See ``UploadSessions``."""
        if self.journal.uploads.get(self.repository, {}).pop(digest, None):
            self.journal.write_uploads()


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _parse_releases(document: dict[str, Any]) -> tuple[UnderWay, ...]:
    return tuple(UnderWay.parse(one) for one in document["releases"])


def _parse_uploads(document: dict[str, Any]) -> dict[str, dict[str, tuple[str, float]]]:
    oldest = time.time() - _UPLOAD_LIFE_S
    return {
        str(name): {
            digest: (str(location), float(when))
            for digest, (location, when) in found.items()
            if is_digest(digest) and float(when) > oldest
        }
        for name, found in document["repositories"].items()
    }


def _parse_blobs(document: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {str(name): texts_of(found) for name, found in document["repositories"].items()}


def _joined(one: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))
