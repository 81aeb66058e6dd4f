"""A torch zip's storages, from the pickle's opcodes alone: no object is made and nothing is called.

torch.save writes each storage as a persistent id, ("storage", torch.FloatStorage, key, device, elements):
tensors that share one count once, as parameters do.
"""

from __future__ import annotations

import pickletools
import zipfile
from typing import Any, BinaryIO

LARGEST_PICKLE = 64 << 20
MOST_VALUES = 64
"""Of one tuple: longer ones are not a storage's."""
TYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "bytes",
}
PUT = ("BINPUT", "LONG_BINPUT", "PUT")
GET = ("BINGET", "LONG_BINGET", "GET")


def torch_zip(stream: BinaryIO) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Type and number of elements of each storage. Raises ValueError where the pickle can't be followed."""
    with zipfile.ZipFile(stream) as archive:
        names = [one for one in archive.infolist() if one.filename.endswith("/data.pkl")]
        if len(names) != 1 or names[0].file_size > LARGEST_PICKLE:
            raise ValueError("not one data.pkl of a size that is read")
        data = archive.read(names[0])
    storages = _storages(data)
    if not storages:
        raise ValueError("no storages in its pickle")
    return [*storages.values()], {}


def _storages(data: bytes) -> dict[str, tuple[str, int]]:
    """Follow what is put on the stack since the last mark: constants and names only, in the pickle's memo."""
    found: dict[str, tuple[str, int]] = {}
    memo: dict[int, Any] = {}  # Any: constants of the pickle, None for what isn't one
    values: list[Any] = []
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name == "MARK":
            values = []
        elif name in PUT:
            memo[int(argument or 0)] = values[-1] if values else None
        elif name == "MEMOIZE":
            memo[len(memo)] = values[-1] if values else None
        elif name == "BINPERSID":
            key, storage = _storage(values[-1] if values else None)
            found[key] = storage
            values.append(None)
        elif name == "TUPLE":
            values = [tuple(values)]
        elif name in GET:
            values.append(memo.get(int(argument or 0)))
        elif name == "STACK_GLOBAL":
            values[-2:] = [" ".join(str(one) for one in values[-2:])]
        elif isinstance(argument, (str, int)):
            values.append(argument)
        else:
            values.append(None)
        del values[:-MOST_VALUES]
    return found


def _storage(value: Any) -> tuple[str, tuple[str, int]]:  # Any: whatever the pickle says
    if not isinstance(value, tuple) or len(value) != 5 or value[0] != "storage":
        raise ValueError("a persistent id that is no storage")
    _, kind, key, _, elements = value
    if not isinstance(kind, str) or not isinstance(elements, int) or elements < 0:
        raise ValueError("a storage without type or size")
    own = kind.rpartition(" ")[2].rpartition(".")[2]
    return str(key), (TYPES.get(own, own[:40]), elements)
