"""How many bytes joblib's NumpyArrayWrapper reads from the middle of a pickle, by what the pickle says.

Too few or too many, and what is taken for an array's bytes would be opcodes for joblib, or the other way
round. So only what joblib and numpy themselves write is taken; anything else is a ParseError.
"""

import re

from pipelines.in_engine.bounded import ParseError

WRAPPERS = frozenset(
    (f"{package}.numpy_pickle", "NumpyArrayWrapper") for package in ("joblib", "sklearn.externals.joblib")
)
NAMED_FILES = frozenset(
    (f"{package}.{module}", name)
    for package in ("joblib", "sklearn.externals.joblib")
    for module in ("numpy_pickle", "numpy_pickle_compat")
    for name in ("NDArrayWrapper", "ZNDArrayWrapper")
)
"""joblib before 0.10 put each array into a file of its own, by name."""
DTYPES = frozenset({("numpy", "dtype"), ("numpy.core.multiarray", "dtype")})
_WRITTEN = re.compile(r"[<>|=]?(?:([biufcmMOV])(\d+)|([SaU])(\d+))")


class Name:
    """A callable by its name: what GLOBAL, STACK_GLOBAL and INST push."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name


class Made:
    """What a call gave: by what; for a numpy dtype also from what, and the state it was then given."""

    __slots__ = ("arguments", "maker", "state")

    def __init__(self, maker: Name, arguments: "list[object]") -> None:
        self.maker = maker
        self.arguments = arguments
        self.state: list[object] | None = None


def bytes_of(fields: "dict[object, object]") -> int | None:
    """The array's bytes, by the wrapper's state; None when its elements are objects: a pickle follows then.

    Raises:
        ParseError: it does not say, or not as joblib writes it.
    """
    size = element_size(fields.get("dtype"))
    shape = fields.get("shape")
    if size is None:
        return None
    if not isinstance(shape, list) or len(shape) > 32:
        raise ParseError("an array of joblib without a shape")
    count = 1
    for length in shape:
        if not isinstance(length, int) or length < 0:
            raise ParseError("an array of joblib with an unknown shape")
        count *= length
    return count * size


def element_size(dtype: object) -> int | None:
    """The bytes of one element of a pickled dtype; None when elements are objects. Raises ParseError."""
    text = dtype.arguments[0] if isinstance(dtype, Made) and dtype.arguments else None
    written = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
    if not isinstance(dtype, Made) or written is None:
        raise ParseError("an array of joblib without a dtype that numpy writes")
    kind = written[1] or written[3]
    width = int(written[2] or written[4]) * (4 if kind == "U" else 1)
    state = dtype.state
    if state is None:
        if kind == "V":
            raise ParseError("an array of joblib whose dtype has no state")
        return None if kind == "O" else width
    # (version, byte order, subdtype, names, fields, element size, alignment, flags[, metadata])
    size, flags = (state[5], state[7]) if len(state) in (8, 9) else (None, None)
    if not isinstance(size, int) or not isinstance(flags, int) or isinstance(size, bool):
        raise ParseError("an array of joblib whose dtype has an unknown state")
    if bool(flags & 1) != (kind == "O" or (kind == "V" and bool(flags & 1))):
        raise ParseError("an array of joblib whose dtype contradicts itself")
    if flags & 1:
        return None
    if kind not in "SaUV":  # numpy takes the state's size for these only
        return width
    if size <= 0:
        raise ParseError("an array of joblib whose elements have no size")
    return size


def other_file(state: object) -> str:
    """The file that a wrapper of joblib before 0.10 reads, if it is not beside the pickle."""
    name = state.get("filename") if isinstance(state, dict) else None
    if not isinstance(name, str):
        return "a name that is computed while loading"
    return name if "/" in name or "\\" in name or name.startswith("..") else ""
