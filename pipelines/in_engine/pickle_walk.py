"""Follows a pickle without loading it: which callables does it name, and does it read to its end?

The stack machine of PEP 307, 3154 and 574 with symbols in place of objects: the names of STACK_GLOBAL and the
size of joblib's raw arrays are on the stack. What can't be known for sure is noted as computed, which no
allow-list has. Memory is bounded: values are not kept, nor containers within containers.
"""

from collections.abc import Callable

from pipelines.in_engine.bounded import Bounded, LimitError, ParseError
from pipelines.in_engine.joblib_arrays import DTYPES, NAMED_FILES, WRAPPERS, Made, Name, bytes_of, other_file
from pipelines.in_engine.pickle_opcodes import Nested, Opcodes, Value

KEPT = 40
"""Elements that a symbolic list keeps; no dtype and no shape has more."""
KEPT_KEYS = frozenset({"shape", "dtype", "numpy_array_alignment_bytes", "filename"})
"""Keys that a symbolic dict keeps: those that joblib's wrappers are read by."""
MOST_KEPT = 300_000
"""Texts and containers that the memo holds; past it, using one is noted as computed."""
DEEPEST_STACK = 3_000_000
MOST_NAMES = 20_000
MOST_GAPS = 1_000_000
COMPUTED = "?"
LOADS_AGAIN = ("torch.storage", "_load_from_bytes")
"""Unpickles its argument. Honest torch models name it; it counts only if the argument was not followed."""
_REBUILDERS = frozenset(
    (module, name)
    for module in ("copyreg", "copy_reg")
    for name in ("_reconstructor", "__newobj__", "__newobj_ex__")
)
_PUSH_ARGUMENT = frozenset(
    """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    """.split()  # noqa: SIM905  four short lines, by what they push
)

_MARK = object()
_UNKNOWN = object()


class Memo:
    """The unpickler's memo: exact in which indices are set, and frugal in what they hold."""

    def __init__(self) -> None:
        self._values: dict[int, object] = {}
        self._dense = 0
        """Every index below it is set."""
        self._others: set[int] = set()

    def put(self, index: int, value: object) -> None:
        """Set ``index``. Raises LimitError when there are more gaps than any pickler leaves."""
        if index == self._dense:
            self._dense += 1
            while self._dense in self._others:
                self._others.discard(self._dense)
                self._dense += 1
        elif index > self._dense:
            self._others.add(index)
            if len(self._others) > MOST_GAPS:
                raise LimitError("its memo has more gaps than is looked at")
        small = isinstance(value, (Name, Made))
        if small or (isinstance(value, (str, list, Value)) and len(self._values) < MOST_KEPT):
            self._values[index] = value
        else:
            self._values.pop(index, None)

    def append(self, value: object) -> None:
        """MEMOIZE: the index is the number of those that are set."""
        self.put(self._dense + len(self._others), value)

    def get(self, index: int) -> object:
        """What ``index`` holds. Raises ParseError when it was never set."""
        if index >= self._dense and index not in self._others:
            raise ParseError("the memo has nothing there")
        return self._values.get(index, _UNKNOWN)


class Walk:
    """One pickle followed to its STOP.

    ``raw_arrays``: follow it as joblib does, which puts an array's bytes between two opcodes; else as pickle.
    """

    def __init__(self, stream: Bounded, nested: Nested, *, raw_arrays: bool = True) -> None:
        self.stream = stream
        self.raw_arrays = raw_arrays
        self.names: dict[tuple[str, str], int] = {}
        """The callables with the byte of the opcode that first names each."""
        self.called = False
        self.skipped_arrays = 0
        self.inner_at: list[int] = []
        """Where joblib starts a pickle within the pickle: for an array of objects."""
        self.other_files: dict[str, None] = {}
        """Files that joblib would read as well, where they are not beside this one."""
        self._codes = Opcodes(stream, nested)
        self._stack: list[object] = []
        self._memo = Memo()
        self._loads_again = 0
        self._loads_again_at = 0

    def run(self) -> None:
        """Follow the pickle.

        Raises:
            ParseError: it isn't one, or ends early; ``names`` holds what came before.
            LimitError: a limit was reached.
        """
        name = ""
        try:
            while name != "STOP":
                name, argument = self._codes.next()
                self._step(name, argument)
        except (LookupError, TypeError) as err:
            raise ParseError(f"the stack does not hold what {name} takes at byte {self._codes.at}") from err
        finally:
            if self._loads_again:
                self.names.setdefault(LOADS_AGAIN, self._loads_again_at)

    def _step(self, name: str, argument: object) -> None:
        if name in _PUSH_ARGUMENT:
            self._push(argument)
        elif name in _STEPS:
            _STEPS[name](self)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo.put(_number(argument), self._stack[-1])
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._push(self._memo.get(_number(argument)))
        elif name == "GLOBAL":
            self._push(self._name(*argument))  # type: ignore[misc]  # the reader gives a pair
        elif name == "INST":
            self._push(self._made(self._name(*argument), self._marked()))  # type: ignore[misc]  # as above
        elif name.startswith("EXT"):
            self._push(self._name("copyreg", f"extension {argument}"))

    def _push(self, value: object) -> None:
        if isinstance(value, Name) and (value.module, value.name) == LOADS_AGAIN:
            self._loads_again += 1
        self._stack.append(value)
        if len(self._stack) > DEEPEST_STACK:
            raise LimitError("it holds more values at once than is looked at")

    def _name(self, module: object, name: object) -> Name:
        """Note a name; one that is not written out, but made while loading, can't be judged."""
        if not (isinstance(module, str) and isinstance(name, str)):
            return self._computed("a name that is computed while loading")
        if (module, name) == LOADS_AGAIN:
            self._loads_again_at = self._codes.at
        else:
            self.names.setdefault((module, name), self._codes.at)
        if len(self.names) > MOST_NAMES:
            raise LimitError("it names more callables than is looked at")
        return Name(module, name)

    def _computed(self, what: str) -> Name:
        self.names.setdefault((COMPUTED, what), self._codes.at)
        return Name(COMPUTED, what)

    def _made(self, maker: object, arguments: object) -> object:
        """What calling ``maker`` gives, as far as anything here depends on it."""
        self.called = True
        if not isinstance(maker, Name):
            self._computed("a callable that is computed while loading")
            return _UNKNOWN
        given = arguments if isinstance(arguments, list) else []
        key = (maker.module, maker.name)
        if key == LOADS_AGAIN and len(given) == 1 and isinstance(given[0], Value) and given[0].looked:
            self._loads_again -= 1
            return _UNKNOWN
        if key == ("_codecs", "encode") and given and isinstance(given[0], Value):
            return given[0]
        if key in _REBUILDERS and given and isinstance(given[0], Name):
            maker, given = given[0], []
        elif any(isinstance(one, Name) and (one.module, one.name) in WRAPPERS for one in given):
            self._computed("an array of joblib that is made in an unusual way")
        return Made(maker, given if (maker.module, maker.name) in DTYPES else [])

    def _marked(self) -> list[object]:
        """Everything above the last mark; the mark goes too."""
        values: list[object] = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        values.reverse()
        return values

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._push(self._name(module, name))

    def _call(self) -> None:
        arguments, maker = self._stack.pop(), self._stack.pop()
        self._stack.append(self._made(maker, arguments))

    def _call_with_keywords(self) -> None:
        self._stack.pop()
        self._call()

    def _call_marked(self) -> None:
        maker, *arguments = self._marked() or [_UNKNOWN]
        self._stack.append(self._made(maker, arguments))

    def _build(self) -> None:
        state, made = self._stack.pop(), self._stack[-1]
        if isinstance(made, Name):
            self._computed(f"a change of {made.module}.{made.name} itself")
        if not isinstance(made, Made):
            return
        key = (made.maker.module, made.maker.name)
        if key in DTYPES:
            made.state = state if isinstance(state, list) else [_UNKNOWN]
        elif self.raw_arrays and key in WRAPPERS:
            self._raw_array(state)
        elif key in NAMED_FILES:
            name = other_file(state)
            if name:
                self.other_files[name] = None

    def _raw_array(self, state: object) -> None:
        """Go past the bytes that joblib's NumpyArrayWrapper.read_array reads from the same file."""
        self.skipped_arrays += 1
        fields = state if isinstance(state, dict) else {}
        size = bytes_of(fields)
        if size is None:
            self.inner_at.append(self.stream.position)
            inner = Walk(self.stream, self._codes.nested, raw_arrays=False)
            inner.names = self.names
            try:
                inner.run()
            finally:
                self.called |= inner.called
            return
        if fields.get("numpy_array_alignment_bytes") is not None:
            self.stream.skip(self.stream.read(1)[0])
        self.stream.skip(size)

    def _pop(self) -> None:
        self._stack.pop()

    def _tuple_of(self, count: int) -> None:
        values = self._stack[-count:]
        if len(values) < count:
            raise ParseError("too few values for a tuple")
        self._stack[-count:] = [_flat(values)]

    def _collect(self) -> None:
        self._stack.append(_flat(self._marked()[:KEPT]))

    def _collect_dict(self) -> None:
        self._stack.append(_pairs(self._marked()))

    def _append(self) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _appends(self) -> None:
        self._extend(self._marked())

    def _extend(self, values: list[object]) -> None:
        target = self._stack[-1]
        if isinstance(target, list) and len(target) < KEPT:
            target.extend(_flat(values[: KEPT - len(target)]))

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _set_items(self) -> None:
        self._update(self._marked())

    def _update(self, items: list[object]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict):
            target.update(_pairs(items))

    def _memoize(self) -> None:
        self._memo.append(self._stack[-1])

    def _duplicate(self) -> None:
        self._push(self._stack[-1])

    def _persistent(self) -> None:
        """What the loader makes of an id. For ("module", class, file, source) torch gives the class."""
        told = self._stack[-1]
        is_class = isinstance(told, list) and len(told) == 4 and told[0] == "module"
        self._stack[-1] = told[1] if is_class and isinstance(told, list) else _UNKNOWN

    def _nothing(self) -> None:
        """PROTO, FRAME, STOP; and READONLY_BUFFER: the value stays as it is."""

    def _drop_marked(self) -> None:
        self._marked()


_STEPS: dict[str, Callable[[Walk], None]] = {
    "PROTO": Walk._nothing,
    "FRAME": Walk._nothing,
    "STOP": Walk._nothing,
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
    "PERSID": lambda walk: walk._push(_UNKNOWN),
    "BINPERSID": Walk._persistent,
    "STACK_GLOBAL": Walk._stack_global,
    "REDUCE": Walk._call,
    "NEWOBJ": Walk._call,
    "NEWOBJ_EX": Walk._call_with_keywords,
    "OBJ": Walk._call_marked,
    "BUILD": Walk._build,
}


def _flat(values: list[object]) -> list[object]:
    """Without the containers among them: nothing that is looked up lies deeper, and memory stays bounded."""
    return [_UNKNOWN if isinstance(value, (list, dict)) else value for value in values]


def _pairs(items: list[object]) -> dict[object, object]:
    """Those keys with their values that anything here depends on."""
    pairs = zip(items[::2], items[1::2])  # noqa: B905  # Python 3.8 has no strict=
    return {key: value for key, value in pairs if isinstance(key, str) and key in KEPT_KEYS}


def _number(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ParseError("a number is not where it belongs")
    return value
