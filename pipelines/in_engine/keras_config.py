"""What a Keras configuration (``config.json``, HDF5's ``model_config``) would import or run when loaded.

Keras 3 imports the ``module`` of every object (keras/src/saving/serialization_lib.py); a Lambda layer holds
marshalled bytecode. skops' ``schema.json`` names types in the same way and is judged by the pickles' list.
"""

import json
import re
from collections.abc import Iterator

from pipelines.in_engine.bounded import ParseError, Stream

LONGEST_JSON = 16 << 20
_MODULES = re.compile(
    r"(tf_)?keras((\.src|\.api)*\.(activations|applications|constraints|dtype_policies|initializers|layers|losses|metrics"
    r"|models|optimizers|ops|random|regularizers|mixed_precision|backend\.common|quantizers|distribution)(\.\w+)*)?"
)
_CLASS = re.compile(r"[A-Za-z_]\w*")
_RUNS = {
    "Lambda": "runs the bytecode that is in the file",
    "__lambda__": "runs the bytecode that is in the file",
    "TorchModuleWrapper": "unpickles a PyTorch module that is in the file",
    "TFSMLayer": "loads a SavedModel from a path",
    "FlaxLayer": "calls a function that is named in the file",
    "JaxLayer": "calls a function that is named in the file",
}
_PLAIN_CLASSES = frozenset(
    {"__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__typespec__", "__tuple__"}
)
_BUILTINS = frozenset({"dict", "list", "set", "tuple", "str", "int", "float", "bool", "NoneType"})
_LOOKUPS = frozenset({"StringLookup", "IntegerLookup", "TextVectorization"})

_START = re.compile(rb'\{[ \t\r\n]*"')
_TAIL = 64


def judged(document: object) -> "dict[tuple[str, str], None]":
    """The objects in a configuration that are not Keras' own or run code: (name, what it would do)."""
    found: dict[tuple[str, str], None] = {}
    pending = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            for one in _object(value):
                found[one] = None
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return found


def _object(value: "dict[str, object]") -> "Iterator[tuple[str, str]]":
    name, module, config = value.get("class_name"), value.get("module"), value.get("config")
    if not isinstance(name, str):
        return
    if name in _RUNS:
        yield f"keras.{name}", _RUNS[name]
    elif isinstance(module, str) and not _known(module, name, config):
        yield f"{module}.{_of(name, config)}", "is imported when the model is loaded"
    elif name not in _PLAIN_CLASSES and not _CLASS.fullmatch(name):
        yield f"keras.{name[:80]}", "is a custom object, not one of Keras"
    registered = value.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        yield f"keras.{registered[:80]}", "is a custom object, not one of Keras"
    vocabulary = config.get("vocabulary") if isinstance(config, dict) else None
    if name in _LOOKUPS and isinstance(vocabulary, str):
        yield f"keras.{name}", f"reads the file {vocabulary[:120]!r}"


def _known(module: str, name: str, config: object) -> bool:
    if module == "builtins":
        return name in _BUILTINS
    return bool(_MODULES.fullmatch(module) and _CLASS.fullmatch(name) and "." not in _of(name, config))


def _of(name: str, config: object) -> str:
    return str(config) if name == "function" and isinstance(config, str) else name


def parsed(text: bytes) -> object:
    """A whole JSON document. Raises ParseError."""
    if len(text) > LONGEST_JSON:
        raise ParseError("its configuration is longer than is looked at")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as err:
        raise ParseError("its configuration is not JSON") from err


def configurations(stream: Stream) -> "Iterator[object]":
    """JSON objects that name classes, wherever they stand in a binary file (HDF5 keeps attributes unpacked).

    Raises:
        ParseError: the file has the attribute ``model_config`` and no such object was found.
    """
    found = announced = False
    window, more = b"", True
    while more:
        data = stream.read(1 << 20)
        more = bool(data)
        window += data
        announced = announced or b"model_config" in window
        start = _START.search(window)
        while start and (more is False or len(window) - start.start() > _TAIL):
            document, end, window = _document(stream, window[start.start() :])
            if isinstance(document, dict):
                found = found or "class_name" in document
                yield document
            window = window[end:]
            start = _START.search(window)
        window = window[start.start() :] if start else window[-_TAIL:]
    if announced and not found:
        raise ParseError("it has a model_config that can't be found")


def _document(stream: Stream, window: bytes) -> "tuple[object, int, bytes]":
    """The JSON object that ``window`` starts with, where it ends, and the window; more is read as needed."""
    while True:
        try:
            document, end = json.JSONDecoder().raw_decode(window.decode("latin-1"))
        except RecursionError as err:
            raise ParseError("its configuration is nested deeper than any honest one") from err
        except json.JSONDecodeError as err:
            cut_off = err.pos >= len(window) - 16 or err.msg.startswith("Unterminated")
            more = stream.read(1 << 20) if cut_off and len(window) < LONGEST_JSON else b""
            if not more:
                return None, 1, window
            window += more
        else:
            return document, end, window


def skops_types(document: object) -> "Iterator[tuple[str, str]]":
    """The types and functions that a skops schema names. Raises ParseError when it is none."""
    if not isinstance(document, dict) or "__loader__" not in document:
        raise ParseError("its schema.json is not one of skops")
    pending: list[object] = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            module, name = value.get("__module__"), value.get("__class__")
            if isinstance(module, str) and isinstance(name, str):
                yield module, name
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
