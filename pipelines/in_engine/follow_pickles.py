"""Follows the pickles of one stream, and decides whether what looks like one is one."""

import contextlib
import io
import re
import sys
from collections.abc import Callable

from pipelines.in_engine.allowed_calls import allowed, of_torch_script
from pipelines.in_engine.bounded import Bounded, ParseError, Stream
from pipelines.in_engine.model_report import Report
from pipelines.in_engine.pickle_walk import COMPUTED, Walk

_FRAMEWORKS = frozenset({"numpy", "scipy", "sklearn", "joblib", "torch", "pip", "pandas"})
_KNOWN = frozenset({"__builtin__", "builtins", "commands", "nt", "os", "posix", "subprocess", "sys"})
IMPORTABLE = _KNOWN | _FRAMEWORKS | frozenset(getattr(sys, "stdlib_module_names", ()))
"""Modules that are surely there: text that happens to parse as opcodes names none of them."""
SEARCHED = 4 << 20
"""How far into a model file pickles are searched for that stand behind a header of their own."""
_START = re.compile(rb"\x80[\x02-\x05](?=[\x95\x8c(c}\])lNK])")
MOST_SEARCHED = 2000

Look = Callable[[Stream, str], None]
"""Looks at a packed or nested value as at a file."""


class Pickles:
    """The pickles of one file or member, ``inside`` it."""

    def __init__(self, report: Report, inside: str, look: Look, *, script: bool = False) -> None:
        self.report = report
        self.inside = inside
        self.look = look
        self.script = script
        """Is it of a TorchScript archive?"""

    def follow(self, stream: io.BufferedReader, *, strict: bool) -> None:
        """Follow the pickles that ``stream`` holds, one after the other (torch's legacy format has five).

        ``strict``: it is for loading as a pickle, so not reading to the first STOP is a finding. Otherwise it
        is only taken for one if it says so (protocol 2 and later) or names what surely can be imported.
        """
        bounded = Bounded(stream, self.report.budget)
        first = True
        while first or bounded.peek(1):
            binary = bounded.peek(2)[:1] == b"\x80"
            walk = Walk(bounded, self._nested)
            start = bounded.position
            broken = self._walk(walk, strict=strict and first, binary=binary)
            if broken:
                if first and (strict or (binary and walk.names)):
                    self.report.cant_read(self.inside, f"can't be followed to its end: {broken}")
                return
            if bounded.position == start:
                return
            if walk.skipped_arrays and not self.inside:
                self._again_as_pickle(walk.inner_at)
            first = False

    def _walk(self, walk: Walk, *, strict: bool, binary: bool) -> str:
        """Why it can't be followed to its end, or ""; what was found until then is noted whatever happens."""
        broken = "an error within"
        try:
            walk.run()
            broken = ""
        except ParseError as err:
            broken = str(err)
        finally:
            if strict or binary:
                names = dict(walk.names)
            elif walk.called or not broken:
                names = {key: at for key, at in walk.names.items() if _surely(key[0])}
            else:
                names = {}
            if strict or names or (binary and not broken):
                self.report.format = self.report.format or "pickle"
                self._note(names if (strict or binary) else dict(walk.names))
                for name in walk.other_files:
                    self.report.cant_read(self.inside, f"joblib would read another file: {name}")
        return broken

    def _again_as_pickle(self, inner_at: list[int]) -> None:
        """Again as ``pickle.load`` would: what is an array's bytes for joblib are opcodes for it.

        Only for a file that isn't packed: joblib unpacks, pickle doesn't. An honest file read this way soon
        makes no sense, so only names in modules that surely can be imported count; from an inner pickle on,
        where it makes other sense as its memo isn't its own, only those of the standard library.
        """
        inner = min(inner_at, default=sys.maxsize)
        with self.report.file.open() as stream:
            names = self._sure_names(Bounded(stream, self.report.budget), raw_arrays=False)
        self._note(
            {
                key: at
                for key, at in names.items()
                if at < inner or key[0].partition(".")[0] not in _FRAMEWORKS | {COMPUTED}
            }
        )

    def search(self) -> None:
        """Look for whole pickles anywhere in the file's start: behind a header that isn't a pickle's."""
        with self.report.file.open() as stream:
            starts = [found.start() for found in _START.finditer(stream.read(SEARCHED))]
            for at in starts[:MOST_SEARCHED]:
                if at:
                    stream.seek(at)
                    bounded = Bounded(stream, self.report.budget)
                    found = Pickles(self.report, f"[from byte {at}]", self.look)
                    names = found._sure_names(bounded, raw_arrays=True)
                    found._note({key: at for key, at in names.items() if key[0] != COMPUTED})

    def _sure_names(self, bounded: Bounded, *, raw_arrays: bool) -> dict[tuple[str, str], int]:
        walk = Walk(bounded, self._nested, raw_arrays=raw_arrays)
        with contextlib.suppress(ParseError):  # it stops where it is no pickle any more, as it should
            walk.run()
        return {key: at for key, at in walk.names.items() if _surely(key[0]) and walk.called}

    def note_type(self, module: str, name: str) -> None:
        """Note a type or function that a schema names."""
        self._note({(module, name): 0})

    def _note(self, names: dict[tuple[str, str], int]) -> None:
        for (module, name), at in names.items():
            if not allowed(module, name) and not (self.script and of_torch_script(module, name)):
                self.report.call(module, name, self.inside, at)

    def _nested(self, stream: Stream, at: int) -> None:
        with contextlib.suppress(ParseError):
            self.look(stream, f"{self.inside}[value at byte {at}]")


def _surely(module: str) -> bool:
    return module.partition(".")[0] in IMPORTABLE or module == COMPUTED
