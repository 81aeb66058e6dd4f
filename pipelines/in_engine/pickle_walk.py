"""Reads a pickle without loading it: which callables does it name, and does it read to its end?

The opcodes come from ``pickletools.genops``; the stack machine of PEP 307, 3154 and 574 is followed with
symbols in place of objects: the names of STACK_GLOBAL and the size of joblib's raw arrays are on the stack.
"""

import pickletools
from collections.abc import Callable

from pipelines.in_engine.bounded import Bounded, LimitError, ParseError

KEPT = 64
"""Elements that a symbolic list or dict keeps; no name and no array header has more."""
JOBLIB_WRAPPERS = {("joblib.numpy_pickle", "NumpyArrayWrapper")}


class Name:
    """A callable by its name: what GLOBAL, STACK_GLOBAL and INST push."""

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name


class Made:
    """What a call gave: only by what, from what, and the state it was then given."""

    def __init__(self, maker: object, arguments: object) -> None:
        self.maker = maker
        self.arguments = arguments
        self.state: object = None


_MARK = object()
_UNKNOWN = object()

_PUSH_ARGUMENT = frozenset(
    """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    """.split()  # noqa: SIM905  four short lines, by what they push
)


class Walk:
    """One pickle followed to its STOP.

    ``raw_arrays``: follow it as joblib does, which puts an array's bytes between two opcodes; else as pickle.
    """

    def __init__(self, stream: Bounded, *, raw_arrays: bool = True) -> None:
        self.stream = stream
        self.raw_arrays = raw_arrays
        self.names: list[tuple[str, str]] = []
        self.called = False
        self.skipped_arrays = 0
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def run(self) -> None:
        """Follow the pickle.

        Raises:
            ParseError: it isn't one, or ends early; ``names`` holds what came before.
            LimitError: a limit was reached.
        """
        try:
            # genops calls tell() only where there is one.
            for opcode, argument, _ in pickletools.genops(self.stream):  # type: ignore[arg-type]
                self._step(opcode.name, argument)
        except (LimitError, ParseError):
            raise
        except (ValueError, TypeError, AttributeError, LookupError, OverflowError, EOFError) as err:
            raise ParseError(str(err)[:120] or type(err).__name__) from err

    def _step(self, name: str, argument: object) -> None:
        if name in _PUSH_ARGUMENT:
            self._stack.append(argument)
        elif name in _STEPS:
            _STEPS[name](self)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[_number(argument)] = self._stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[_number(argument)])
        elif name == "GLOBAL":
            self._stack.append(self._name(*str(argument).split(" ", 1)))
        elif name == "INST":
            self._stack.append(Made(self._name(*str(argument).split(" ", 1)), self._marked()))
            self.called = True
        elif name.startswith("EXT"):
            self._stack.append(self._name("copyreg", f"extension {argument}"))
        elif name == "PERSID":
            self._stack.append(_UNKNOWN)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ParseError(f"an opcode that is not known here: {name}")

    def _name(self, module: object, name: object) -> Name:
        """Note a name; one that is not written out, but made while loading, can't be judged."""
        if not (isinstance(module, str) and isinstance(name, str)):
            module, name = "?", "a name that is computed while loading"
        self.names.append((module, name))
        return Name(module, name)

    def _marked(self) -> list[object]:
        """Everything above the last mark; the mark goes too."""
        values: list[object] = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        values.reverse()
        return values

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._name(module, name))

    def _call(self) -> None:
        arguments, maker = self._stack.pop(), self._stack.pop()
        self._stack.append(Made(maker, arguments))
        self.called = True

    def _call_with_keywords(self) -> None:
        self._stack.pop()
        self._call()

    def _call_marked(self) -> None:
        maker, *arguments = self._marked()
        self._stack.append(Made(maker, arguments))
        self.called = True

    def _build(self) -> None:
        state, made = self._stack.pop(), self._stack[-1]
        if isinstance(made, Made):
            made.state = state
            maker = made.maker
            if self.raw_arrays and isinstance(maker, Name) and (maker.module, maker.name) in JOBLIB_WRAPPERS:
                self._raw_array(state)

    def _raw_array(self, state: object) -> None:
        """Go past the bytes that joblib's NumpyArrayWrapper.read_array reads from the same file."""
        fields = state if isinstance(state, dict) else {}
        size, has_objects = item_size(fields.get("dtype"))
        shape = fields.get("shape")
        self.skipped_arrays += 1
        if has_objects:
            inner = Walk(self.stream, raw_arrays=False)
            try:
                inner.run()
            finally:
                self.names += inner.names
                self.called |= inner.called
            return
        if not isinstance(shape, list):
            raise ParseError("an array of joblib without a shape")
        count = 1
        for length in shape:
            count *= _number(length)
        if fields.get("numpy_array_alignment_bytes") is not None:
            padding = self.stream.read(1)
            self.stream.skip(padding[0] if padding else 0)
        self.stream.skip(count * size)

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self) -> None:
        if self._stack.pop() is _MARK and not self._stack:
            raise ParseError("nothing left on the stack")

    def _tuple_of(self, count: int) -> None:
        values = self._stack[-count:]
        if len(values) < count:
            raise ParseError("too few values for a tuple")
        self._stack[-count:] = [values]

    def _collect(self) -> None:
        self._stack.append(self._marked()[:KEPT])

    def _collect_dict(self) -> None:
        items = self._marked()
        self._stack.append(_pairs(items))

    def _append(self) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _appends(self) -> None:
        self._extend(self._marked())

    def _extend(self, values: list[object]) -> None:
        target = self._stack[-1]
        if isinstance(target, list) and len(target) < KEPT:
            target.extend(values[: KEPT - len(target)])

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _set_items(self) -> None:
        self._update(self._marked())

    def _update(self, items: list[object]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict) and len(target) < KEPT:
            target.update(_pairs(items))

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _duplicate(self) -> None:
        self._stack.append(self._stack[-1])

    def _replace_with_unknown(self) -> None:
        self._stack[-1] = _UNKNOWN

    def _nothing(self) -> None:
        """READONLY_BUFFER: the value stays as it is."""

    def _drop_marked(self) -> None:
        self._marked()


_STEPS: dict[str, Callable[[Walk], None]] = {
    "MARK": lambda walk: walk._push(_MARK),
    "NONE": lambda walk: walk._push(None),
    "NEWTRUE": lambda walk: walk._push(True),
    "NEWFALSE": lambda walk: walk._push(False),
    "EMPTY_LIST": lambda walk: walk._push([]),
    "EMPTY_TUPLE": lambda walk: walk._push([]),
    "EMPTY_DICT": lambda walk: walk._push({}),
    "EMPTY_SET": lambda walk: walk._push([]),
    "NEXT_BUFFER": lambda walk: walk._push(_UNKNOWN),
    "READONLY_BUFFER": Walk._nothing,
    "LIST": Walk._collect,
    "TUPLE": Walk._collect,
    "FROZENSET": Walk._collect,
    "DICT": Walk._collect_dict,
    "TUPLE1": lambda walk: walk._tuple_of(1),
    "TUPLE2": lambda walk: walk._tuple_of(2),
    "TUPLE3": lambda walk: walk._tuple_of(3),
    "APPEND": Walk._append,
    "APPENDS": Walk._appends,
    "ADDITEMS": Walk._appends,
    "SETITEM": Walk._set_item,
    "SETITEMS": Walk._set_items,
    "POP": Walk._pop,
    "POP_MARK": Walk._drop_marked,
    "DUP": Walk._duplicate,
    "MEMOIZE": Walk._memoize,
    "BINPERSID": Walk._replace_with_unknown,
    "STACK_GLOBAL": Walk._stack_global,
    "REDUCE": Walk._call,
    "NEWOBJ": Walk._call,
    "NEWOBJ_EX": Walk._call_with_keywords,
    "OBJ": Walk._call_marked,
    "BUILD": Walk._build,
}


def _pairs(items: list[object]) -> dict[object, object]:
    """Keys that are text with their values: no other key is ever looked up."""
    pairs = zip(items[::2], items[1::2], strict=False)
    return {key: value for key, value in pairs if isinstance(key, str)}


def _number(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ParseError("a number is not where it belongs")
    return value


def item_size(dtype: object) -> tuple[int, bool]:
    """The bytes of one element of a pickled numpy dtype, and whether elements are objects (then pickled)."""
    if not isinstance(dtype, Made) or not isinstance(dtype.arguments, list) or not dtype.arguments:
        raise ParseError("an array of joblib without a dtype")
    text = dtype.arguments[0]
    if not isinstance(text, str):
        raise ParseError("an array of joblib with an unknown dtype")
    state = dtype.state if isinstance(dtype.state, list) else []
    flags = state[7] if len(state) > 7 else 0
    if text.startswith("O") or (isinstance(flags, int) and flags & 1):
        return 0, True
    element = state[5] if len(state) > 5 else -1
    if isinstance(element, int) and element > 0:
        return element, False
    digits = text.lstrip("<>|=").lstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?")
    width = int(digits) if digits.isdecimal() else 1
    return width * 4 if "U" in text else width, False
