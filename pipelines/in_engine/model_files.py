"""What would the image's model files run when they are loaded? One line of JSON on standard output.

Usage: python3 -m pipelines.in_engine.model_files ROOT

Every file is sniffed by its content, whatever its name. Pickles are followed, never loaded; so are those
inside zip (torch, npz), gzip, zlib, bz2, xz and lzma (joblib), tar and numpy object arrays.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

from pipelines.in_engine.allowed_calls import allowed
from pipelines.in_engine.bounded import Bounded, LimitError, ParseError
from pipelines.in_engine.formats import check_onnx, check_safetensors, numpy_objects
from pipelines.in_engine.pickle_walk import Walk
from pipelines.in_engine.rootfs import File, Problems, files, tell

PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".dill", ".pkl.gz", ".pt")
"""Files of these names are for loading as pickles: what can't be followed to its end is a finding.

Not ``.pth``, which is Python's path configuration as well; torch's are known by their content."""
OPAQUE = {".h5": "HDF5", ".hdf5": "HDF5", ".keras": "Keras"}
"""Formats that may hold code (Keras' Lambda layers) and are recognised, but not looked into yet."""
DATA = {".gguf": "GGUF", ".tflite": "TensorFlow Lite"}
LZ4 = b"\x04\x22\x4d\x18"

RATIO, SLACK = 200, 64 << 20
"""How much a file may unpack to: 200 times its size and 64 MiB. Real weights don't compress that well."""
IMPORTABLE = sys.stdlib_module_names | {"__builtin__", "numpy", "scipy", "sklearn", "joblib", "torch", "pip"}
SECONDS_PER_FILE = 60.0
DEEPEST = 4
MEMBERS = 100_000
ERRORS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)


class Report:
    """What one file of the image gave."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.deadline = time.monotonic() + SECONDS_PER_FILE
        self.limit = file.size * RATIO + SLACK
        self.format = ""
        self.calls: dict[tuple[str, str, str], None] = {}
        self.unread: list[str] = []
        self.inside_model = file.path.lower().endswith(PICKLE_SUFFIXES)

    def json(self) -> dict[str, object]:
        """As the pipeline reads it."""
        calls = [{"module": module, "name": name, "inside": inside} for module, name, inside in self.calls]
        return {"path": self.file.path, "format": self.format, "calls": calls, "unread": self.unread}


class Zlib(io.RawIOBase):
    """A zlib stream read forward; the standard library has files for the others only."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._inflate = zlib.decompressobj()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer`` with what is unpacked next."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # io hands over a writable buffer
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._stream.read(65536)
            if not packed:
                return 0
            data = self._inflate.decompress(packed, len(view))
            if data:
                view[: len(data)] = data
                return len(data)
        return 0


def main(arguments: list[str]) -> int:
    """Look at every file; the exit code is 1 when one was not read, so that no engine keeps the answer."""
    problems, reports, looked_at = Problems(), [], 0
    for file in files(Path(arguments[0]), problems):
        if not file.size:
            continue
        looked_at += 1
        report = Report(file)
        try:
            with file.open() as stream:
                look(stream, report, "", depth=0)
        except ERRORS as err:
            problems.add(file.path, err)
        if report.format or report.calls or report.unread:
            reports.append(report.json())
    tell({"files": reports, "looked_at": looked_at, "problems": problems.told()})
    return 1 if problems.count else 0


def look(stream: object, report: Report, inside: str, *, depth: int) -> None:
    """Sniff what ``stream`` is and follow what could be loaded from it, as deep as ``DEEPEST``."""
    buffered = _buffered(stream)
    head = buffered.peek(512)[:512]
    kind = _kind(head)
    if depth > DEEPEST:
        report.unread.append(f"{inside}: packed more than {DEEPEST} times")
        return
    try:
        _LOOKERS[kind](buffered, report, inside, depth)
    except LimitError as err:
        report.unread.append(_told(inside, str(err)))
    except ERRORS as err:
        # A broken archive that nobody calls a model is not ours to judge; a broken model is.
        if report.inside_model:
            report.unread.append(_told(inside, f"{kind}: {err}"))


def _buffered(stream: object) -> io.BufferedReader:
    if isinstance(stream, io.BufferedReader):
        return stream
    return io.BufferedReader(stream)  # type: ignore[arg-type]  # any opened binary file


def _told(inside: str, reason: str) -> str:
    return f"{inside}: {reason}" if inside else reason


def _kind(head: bytes) -> str:
    magic = next((kind for start, kind in _MAGIC if head.startswith(start)), "")
    if magic:
        return magic
    if head[257:262] == b"ustar":
        return "tar"
    if len(head) > 1 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "zlib"
    return "other"


_MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "xz"),
    (b"\x93NUMPY", "npy"),
    (LZ4, "lz4"),
)


def _gzip(stream: io.BufferedReader, report: Report, inside: str, depth: int) -> None:
    look(gzip.GzipFile(fileobj=stream), report, f"{inside}[gzip]", depth=depth + 1)


def _bz2(stream: io.BufferedReader, report: Report, inside: str, depth: int) -> None:
    look(bz2.BZ2File(stream), report, f"{inside}[bz2]", depth=depth + 1)


def _xz(stream: io.BufferedReader, report: Report, inside: str, depth: int) -> None:
    look(lzma.LZMAFile(stream), report, f"{inside}[xz]", depth=depth + 1)  # noqa: SIM115


def _zlib(stream: io.BufferedReader, report: Report, inside: str, depth: int) -> None:
    look(Zlib(stream), report, f"{inside}[zlib]", depth=depth + 1)


def _lz4(stream: io.BufferedReader, report: Report, inside: str, depth: int) -> None:
    if report.inside_model:
        raise ParseError("packed with lz4, which is not read here")


def _zip(stream: io.BufferedReader, report: Report, inside: str, depth: int) -> None:
    """Look at each member of a zip (torch, npz, wheels)."""
    with tempfile.SpooledTemporaryFile(max_size=32 << 20) as copy:
        if depth:
            _spool(stream, copy, report)
        archive = zipfile.ZipFile(copy if depth else stream)
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) > MEMBERS:
            raise LimitError(f"more than {MEMBERS} files in one archive")
        if any(member.filename.endswith(("data.pkl", "constants.pkl")) for member in members):
            report.format = report.format or "torch zip"
            report.inside_model = True
        for member in members:
            _in_time(report)
            with archive.open(member) as opened:
                look(opened, report, f"{inside}!{member.filename}", depth=depth + 1)


def _in_time(report: Report) -> None:
    if time.monotonic() > report.deadline:
        raise LimitError("it takes longer than is waited for")


def _spool(stream: io.BufferedReader, copy: object, report: Report) -> None:
    while data := stream.read(1 << 20):
        report.limit -= len(data)
        _in_time(report)
        if report.limit < 0:
            raise LimitError("it unpacks to more than is looked at")
        copy.write(data)  # type: ignore[attr-defined]  # a SpooledTemporaryFile of bytes


def _tar(stream: io.BufferedReader, report: Report, inside: str, depth: int) -> None:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for count, member in enumerate(archive):
            _in_time(report)
            if count > MEMBERS:
                raise LimitError(f"more than {MEMBERS} files in one archive")
            opened = archive.extractfile(member) if member.isfile() and member.size else None
            if opened:
                look(opened, report, f"{inside}!{member.name}", depth=depth + 1)


def _npy(stream: io.BufferedReader, report: Report, inside: str, depth: int) -> None:
    report.format, report.inside_model = report.format or "numpy", True
    if numpy_objects(stream):
        report.format = "numpy, pickled objects"
        _follow(stream, report, inside, strict=True)


def _other(stream: io.BufferedReader, report: Report, inside: str, depth: int) -> None:
    """No magic of a container: a checked format by its name, else perhaps a pickle of any protocol."""
    path = report.file.path.lower()
    suffix = path[path.rfind(".") :] if depth == 0 else ""
    if suffix == ".safetensors":
        report.format, report.inside_model = "safetensors", True
        check_safetensors(stream, report.file.size)
    elif suffix == ".onnx":
        report.format, report.inside_model = "onnx", True
        check_onnx(stream, report.file.size)
    elif suffix in OPAQUE or suffix in DATA:
        report.format = OPAQUE.get(suffix) or DATA[suffix]
    else:
        _follow(stream, report, inside, strict=report.inside_model and not inside.startswith("!"))


def _follow(stream: io.BufferedReader, report: Report, inside: str, *, strict: bool) -> None:
    """Follow the pickles that ``stream`` starts with, one after the other (torch's legacy format has four).

    ``strict``: it is for loading as a pickle, so not reading to the first STOP is a finding. Otherwise it is
    only taken for a pickle if it says so (protocol 2 and later) or really calls something; text never does.
    """
    binary = stream.peek(2)[:1] == b"\x80"
    bounded = Bounded(stream, report.limit, report.deadline)
    first = True
    while first or stream.peek(2)[:1] == b"\x80":
        walk, broken = Walk(bounded), ""
        try:
            walk.run()
        except ParseError as err:
            broken = str(err)
        is_pickle = strict or not broken or (binary and bool(walk.names))
        if is_pickle and (binary or strict or (walk.names and walk.called)):
            report.format = report.format or "pickle"
            _note(walk, report, inside)
            if broken and first:
                report.unread.append(_told(inside, f"can't be followed to its end: {broken}"))
        if broken:
            return
        if walk.skipped_arrays:
            _follow_as_pickle(report, inside)
        first = False


def _follow_as_pickle(report: Report, inside: str) -> None:
    """Again as ``pickle.load`` would: what is an array's bytes for joblib are opcodes for it.

    Only for a file that isn't packed: joblib unpacks, pickle doesn't. An honest file read this way
    soon makes no sense, so only names in modules that surely can be imported count.
    """
    if inside:
        return
    with report.file.open() as stream:
        walk = Walk(Bounded(stream, report.limit, report.deadline), raw_arrays=False)
        with contextlib.suppress(ParseError):  # it stops at the first array's bytes, as it should
            walk.run()
        walk.names = [one for one in walk.names if one[0].partition(".")[0] in IMPORTABLE]
        _note(walk, report, inside)


def _note(walk: Walk, report: Report, inside: str) -> None:
    for module, name in walk.names:
        if not allowed(module, name):
            report.calls[module, name, inside] = None


_LOOKERS = {
    "zip": _zip,
    "gzip": _gzip,
    "bz2": _bz2,
    "xz": _xz,
    "zlib": _zlib,
    "lz4": _lz4,
    "npy": _npy,
    "tar": _tar,
    "other": _other,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
