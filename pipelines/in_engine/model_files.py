"""What would the image's model files run when they are loaded? One line of JSON on standard output.

Usage: python3 -m pipelines.in_engine.model_files ROOT

Every file is sniffed by its content, whatever its name. Pickles are followed, never loaded; so are those
inside zip (torch, npz, skops, Keras), gzip, zlib, bz2, xz and lzma (joblib), tar, and numpy object arrays.
"""

import bz2
import gzip
import io
import lzma
import re
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

from pipelines.in_engine.archives import Zlib, ends_as_zip, member, starts_as_tar
from pipelines.in_engine.bounded import Bounded, Budget, LimitError, Metered, ParseError, Stream
from pipelines.in_engine.follow_pickles import Pickles
from pipelines.in_engine.formats import Gguf, check_safetensors, check_tflite, numpy_header
from pipelines.in_engine.keras_config import LONGEST_JSON, configurations, judged, parsed, skops_types
from pipelines.in_engine.model_report import Report
from pipelines.in_engine.onnx_graph import Onnx
from pipelines.in_engine.rootfs import Problems, files, tell

PICKLE_NAMES = re.compile(
    r".*\.(pkl|pickle|joblib|dill|pt|ckpt|skops|npz)(\.(gz|bz2|xz|lzma|z))?|pytorch_model.*\.bin"
)
"""Files of these names are for loading as pickles: what can't be followed to its end is a finding.

Not ``.pth``, which is Python's path configuration as well; torch's are known by their content."""
MODEL_NAMES = re.compile(
    rf"{PICKLE_NAMES.pattern}|.*\.(bin|pth|h5|hdf5|keras|onnx|safetensors|gguf|tflite|npy|npz|model|weights)"
)
"""Files of these names are looked at from more than one side: several loaders may take them."""

RATIO, SLACK = 200, 64 << 20
"""How much a file may unpack to: 200 times its size and 64 MiB. Real weights don't compress that well."""
SECONDS_PER_FILE = 60.0
SECONDS_IN_ALL = 840.0
"""Less than the pipeline waits: what is left then is said not to have been looked at."""
DEEPEST = 6
MEMBERS = 100_000
ERRORS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    LookupError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)


class Place:
    """Where a stream is: inside what, how deep, and whether it is for loading as a pickle."""

    def __init__(self, report: Report, inside: str = "", *, depth: int = 0, strict: bool = False) -> None:
        self.report = report
        self.inside = inside
        self.depth = depth
        self.strict = strict
        self.script = False

    @property
    def followed(self) -> bool:
        """Was a pickle found, so that there is no need to search for one?"""
        return "pickle" in self.report.format

    def within(self, name: str, *, strict: bool) -> "Place":
        """One level deeper."""
        return Place(self.report, f"{self.inside}{name}", depth=self.depth + 1, strict=strict)

    def unread(self, reason: object) -> None:
        """Note that what is here can't be followed."""
        self.report.cant_read(self.inside, str(reason))

    def pickles(self) -> Pickles:
        """For following the pickles that are here."""

        def look_within(stream: Stream, inside: str) -> None:
            deeper = Place(self.report, inside, depth=self.depth + 1, strict=False)
            look(stream, deeper)

        return Pickles(self.report, self.inside, look_within, script=self.script)


def main(arguments: "list[str]") -> int:
    """Look at every file; the exit code is 1 when one was not read, so that no engine keeps the answer."""
    problems, reports, looked_at = Problems(), [], 0
    deadline = time.monotonic() + SECONDS_IN_ALL
    for file in files(Path(arguments[0]), problems):
        if not file.size:
            continue
        if time.monotonic() > deadline:
            problems.add(file.path, "no time was left for it")
            continue
        looked_at += 1
        report = Report(file, Budget(file.size * RATIO + SLACK, SECONDS_PER_FILE))
        try:
            look_at(report)
        except OSError as err:
            problems.add(file.path, err)
        if report.found:
            reports.append(report.json())
    tell({"files": reports, "looked_at": looked_at, "problems": problems.told()})
    return 1 if problems.count else 0


def look_at(report: Report) -> None:
    """Look at one file, from every side from which a loader may take it. Raises OSError."""
    name, size = report.file.name.lower(), report.file.size
    place = Place(report, strict=bool(PICKLE_NAMES.fullmatch(name)))
    with report.file.open() as stream:
        kind = look(stream, place)
    model = bool(report.format or report.unread or MODEL_NAMES.fullmatch(name))
    with report.file.open() as stream:
        stream.seek(max(0, size - 22))
        zip_behind = kind != "zip" and (
            stream.read(4) == b"PK\x05\x06" or (model and ends_as_zip(stream, size))
        )
    if zip_behind:
        with report.file.open() as stream:
            _guarded("zip", stream, place)
    if kind in ("tar", "claimed") or (model and kind == "other" and not report.format):
        with report.file.open() as stream:
            _guarded("other", stream, Place(report))
    if model and not place.followed and kind in ("other", "claimed", "hdf5", "gguf", "tflite"):
        try:
            place.pickles().search()
        except LimitError as err:
            place.unread(err)


def look(stream: Stream, place: Place) -> str:
    """Sniff what ``stream`` is, follow what could be loaded from it, as deep as ``DEEPEST``; say its kind."""
    buffered = stream if isinstance(stream, io.BufferedReader) else _buffered(stream)
    if place.depth > DEEPEST:
        place.unread(f"packed more than {DEEPEST} times")
        place.report.budget.exhaust()
        return "other"
    kind = "other"
    try:
        kind = _kind(buffered.peek(512)[:512], place)
    except ERRORS as err:
        if place.strict:
            place.unread(err)
        return kind
    _guarded(kind, buffered, place)
    return kind


def _buffered(stream: Stream) -> "io.BufferedReader":
    return io.BufferedReader(stream)  # type: ignore[arg-type]  # any opened binary file


def _guarded(kind: str, stream: io.BufferedReader, place: Place) -> None:
    """Look, and note why it could not be done. A broken file that nobody calls a model is not ours."""
    try:
        _LOOKERS[kind](stream, place)
    except LimitError as err:
        if not place.report.unread:
            place.unread(err)
    except ERRORS as err:
        if place.strict or kind in _ALWAYS_TOLD:
            place.unread(f"{place.report.format if kind == 'claimed' else kind}: {err}")


_MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00", "xz"),
    (b"\x93NUMPY", "npy"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"GGUF", "gguf"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_CLAIMED = re.compile(r".*\.(safetensors|onnx|h5|hdf5|keras|gguf|tflite|pb)")
_ALWAYS_TOLD = frozenset({"npy", "hdf5", "claimed", "gguf", "tflite"})
_ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42]")


def _kind(head: bytes, place: Place) -> str:
    magic = next((kind for start, kind in _MAGIC if head.startswith(start)), "")
    if magic:
        return magic
    if head[4:8] == b"TFL3":
        return "tflite"
    if head[257:262] == b"ustar" or starts_as_tar(head):
        return "tar"
    if len(head) > 1 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "zlib"
    if not place.depth and (_CLAIMED.fullmatch(place.report.file.name.lower()) or _ONNX.match(head)):
        return "claimed"
    return "other"


def _unpacked(name: str, stream: Stream, place: Place) -> None:
    look(Metered(stream, place.report.budget), place.within(f"[{name}]", strict=place.strict))


def _unreadable_packing(name: str, place: Place) -> None:
    if place.strict:
        raise ParseError(f"packed with {name}, which needs a library to be read")


def _zip(stream: io.BufferedReader, place: Place) -> None:
    """Look at each member of a zip (torch, npz, Keras, skops, wheels)."""
    with tempfile.SpooledTemporaryFile(max_size=32 << 20) as copy:
        if place.depth:
            while data := stream.read(1 << 20):
                place.report.budget.spend(len(data))
                copy.write(data)
        try:
            archive = zipfile.ZipFile(copy if place.depth else stream)
        except ERRORS as err:
            # What Python can't read another reader may; at the start of a file that is a model's business.
            place.strict = place.strict or not place.depth
            raise ParseError(str(err)) from err
        members = [one for one in archive.infolist() if not one.filename.endswith("/") or one.file_size]
        if len(members) > MEMBERS:
            raise LimitError(f"more than {MEMBERS} files in one archive")
        names = {one.filename for one in members}
        _zip_format(names, place)
        script = any(name.endswith("constants.pkl") for name in names)
        for info in members:
            place.report.budget.spend(0)
            _zip_member(copy if place.depth else stream, info, place, script=script)


def _zip_format(names: "set[str]", place: Place) -> None:
    report = place.report
    if any(name.endswith(("data.pkl", "constants.pkl")) for name in names):
        report.format = report.format or "torch zip"
    elif "config.json" in names and ("metadata.json" in names or "model.weights.h5" in names):
        report.format = report.format or "Keras"
    elif "schema.json" in names and report.file.name.lower().endswith(".skops"):
        report.format = report.format or "skops"


def _zip_member(file: object, info: zipfile.ZipInfo, place: Place, *, script: bool) -> None:
    name = info.filename
    strict = name.endswith((".pkl", ".pickle", ".joblib"))
    deeper = place.within(f"!{name}", strict=strict)
    deeper.script = script
    try:
        opened = Metered(member(file, info), place.report.budget)  # type: ignore[arg-type]  # a spooled file is one
        if place.report.format == "Keras" and name in ("config.json", "metadata.json"):
            _keras_json(_whole(opened), deeper)
        elif name == "schema.json" and place.report.format == "skops":
            for module, called in skops_types(parsed(_whole(opened))):
                deeper.pickles().note_type(module, called)
        else:
            look(opened, deeper)
    except ERRORS as err:
        if strict or place.report.format:
            deeper.unread(err)


def _whole(stream: io.RawIOBase) -> bytes:
    return io.BufferedReader(stream).read(LONGEST_JSON + 1)


def _keras_json(text: bytes, place: Place) -> None:
    for what, why in judged(parsed(text)):
        place.report.note(what, "critical", f"{what} {why}", place.inside)


def _tar(stream: io.BufferedReader, place: Place) -> None:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for count, info in enumerate(archive):
            place.report.budget.spend(0)
            if count > MEMBERS:
                raise LimitError(f"more than {MEMBERS} files in one archive")
            opened = archive.extractfile(info) if info.isfile() and info.size else None
            if opened:
                look(opened, place.within(f"!{info.name}", strict=info.name.endswith((".pkl", ".joblib"))))


def _npy(stream: io.BufferedReader, place: Place) -> None:
    place.report.format = place.report.format or "numpy"
    objects, size = numpy_header(stream)
    if objects:
        place.report.format = (
            "numpy, pickled objects" if place.report.format == "numpy" else place.report.format
        )
        place.pickles().follow(stream, strict=True)
    elif size >= 0:
        Bounded(stream, place.report.budget).skip(size)
        if stream.peek(1):
            look(stream, place.within("[behind the array]", strict=False))


def _hdf5(stream: io.BufferedReader, place: Place) -> None:
    place.report.format = place.report.format or "HDF5"
    for document in configurations(Metered(stream, place.report.budget)):
        for what, why in judged(document):
            place.report.note(what, "critical", f"{what} {why}", place.inside)


def _gguf(stream: io.BufferedReader, place: Place) -> None:
    place.report.format = place.report.format or "GGUF"
    for key in Gguf(stream, place.report.file.size).check():
        place.report.note(
            "gguf-template", "high", f"its {key} reaches into Python when it is rendered", place.inside
        )


def _tflite(stream: io.BufferedReader, place: Place) -> None:
    place.report.format = place.report.format or "TensorFlow Lite"
    check_tflite(stream.peek(8)[:8], place.report.file.size)


def _claimed(stream: io.BufferedReader, place: Place) -> None:
    """No magic number, but a name that promises a format: held to it."""
    report, name = place.report, place.report.file.name.lower()
    if name.endswith(".safetensors"):
        report.format = "safetensors"
        check_safetensors(stream, report.file.size)
    elif name.endswith(".onnx"):
        report.format = "onnx"
        _onnx(stream, place)
    elif name.endswith((".h5", ".hdf5", ".keras")):
        _hdf5(stream, place)
    elif name.endswith(".gguf"):
        _gguf(stream, place)
    elif name.endswith(".tflite"):
        _tflite(stream, place)
    elif name.endswith(".pb"):
        _saved_model(stream, place)
    else:
        try:
            _onnx(stream, place)
        except ParseError:
            return
        report.format = report.format or "onnx"


def _onnx(stream: io.BufferedReader, place: Place) -> None:
    found = Onnx(Bounded(stream, place.report.budget), place.report.file.size).read()
    for path in found.outside():
        place.report.note(
            "onnx-external-data", "critical", f"its weights are read from {path!r}", place.inside
        )
    for domain in found.own_domains():
        place.report.note(
            "onnx-operators", "medium", f"its operators of {domain!r} need a library", place.inside
        )


_TF_OPERATORS = re.compile(
    rb"\x12[\x06-\x12](PyFunc|EagerPyFunc|PyFuncStateless|ReadFile|WriteFile|MatchingFiles)[\x1a\x22\x2a]"
)


def _saved_model(stream: io.BufferedReader, place: Place) -> None:
    """TensorFlow's operators that run Python or touch files, by their names in the graph."""
    tail = b""
    while data := stream.read(1 << 20):
        place.report.budget.spend(0)
        for found in _TF_OPERATORS.finditer(tail + data):
            place.report.format = "TensorFlow"
            operator = found[1].decode()
            place.report.note(
                f"tensorflow.{operator}", "critical", f"its graph runs {operator}", place.inside
            )
        tail = data[-64:]


def _other(stream: io.BufferedReader, place: Place) -> None:
    """No magic of a container: perhaps a pickle of any protocol."""
    place.pickles().follow(stream, strict=place.strict)


_LOOKERS = {
    "zip": _zip,
    "gzip": lambda stream, place: _unpacked("gzip", gzip.GzipFile(fileobj=stream), place),
    "bz2": lambda stream, place: _unpacked("bz2", bz2.BZ2File(stream), place),
    "xz": lambda stream, place: _unpacked("xz", lzma.LZMAFile(stream), place),  # noqa: SIM115
    "zlib": lambda stream, place: _unpacked("zlib", io.BufferedReader(Zlib(stream)), place),
    "lz4": lambda stream, place: _unreadable_packing("lz4", place),
    "zstd": lambda stream, place: _unreadable_packing("zstd", place),
    "npy": _npy,
    "hdf5": _hdf5,
    "gguf": _gguf,
    "tflite": _tflite,
    "tar": _tar,
    "claimed": _claimed,
    "other": _other,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
