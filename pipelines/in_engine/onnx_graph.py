"""What an ONNX file reaches outside of itself: external data by path, operators of a library of its own.

Reads the protobuf wire format of ``ModelProto`` (onnx.proto, IR version 13) forward, without its weights.
"""

from pipelines.in_engine.bounded import Bounded, ParseError

MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, SPARSE, ENTRY, OPERATORS, FUNCTION, TRAINING = range(10)
_INSIDE = {
    MODEL: {7: GRAPH, 8: OPERATORS, 20: TRAINING, 25: FUNCTION},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    TENSOR: {13: ENTRY},
    SPARSE: {1: TENSOR, 2: TENSOR},
    TRAINING: {1: GRAPH, 2: GRAPH},
    FUNCTION: {7: NODE, 9: OPERATORS, 11: ATTRIBUTE},
    ENTRY: {},
    OPERATORS: {},
}
"""Which fields of a message are messages that are looked into."""
_TEXTS = {NODE: (7,), OPERATORS: (1,), FUNCTION: (10,), ENTRY: (1, 2)}
_STANDARD = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft")
LONGEST_TEXT = 1 << 16
DEEPEST = 64


class Onnx:
    """What was found in one file."""

    def __init__(self, stream: Bounded, size: int) -> None:
        self._stream = stream
        self._size = size
        self.places: dict[str, None] = {}
        """Where external data is said to lie."""
        self.domains: dict[str, None] = {}
        self.defined: dict[str, None] = {}

    def read(self) -> "Onnx":
        """Read the file to its last byte. Raises ParseError, LimitError."""
        if 7 not in self._message(MODEL, self._size, 0):
            raise ParseError("it holds no graph")
        return self

    def outside(self) -> "list[str]":
        """Paths of external data that aren't names beside or below the file."""
        return [place for place in self.places if leaves(place)]

    def own_domains(self) -> "list[str]":
        """Domains of operators that ONNX Runtime has only with a library of someone's own."""
        return [
            domain
            for domain in self.domains
            if domain not in self.defined
            and domain not in _STANDARD
            and not domain.startswith("com.microsoft.")
        ]

    def _message(self, kind: int, end: int, depth: int) -> "set[int]":
        """Read one message up to the byte ``end``; the numbers of its fields."""
        if depth > DEEPEST:
            raise ParseError("its graphs are nested deeper than any honest one's")
        fields: set[int] = set()
        texts: dict[int, str] = {}
        while self._stream.position < end:
            key = self._varint()
            field, wire = key >> 3, key & 7
            fields.add(field)
            if wire == 0:
                self._varint()
            elif wire in (1, 5):
                self._stream.skip(8 if wire == 1 else 4)
            elif wire == 2:
                self._sized(kind, field, end, depth, texts)
            else:
                raise ParseError(f"no ONNX field at byte {self._stream.position}")
        if self._stream.position > end:
            raise ParseError("it ends within a field")
        self._note(kind, texts)
        return fields

    def _sized(self, kind: int, field: int, end: int, depth: int, texts: "dict[int, str]") -> None:
        length = self._varint()
        stop = self._stream.position + length
        if stop > end:
            raise ParseError("a field is longer than what it is in")
        inner = _INSIDE[kind].get(field)
        if inner is not None:
            self._message(inner, stop, depth + 1)
        elif field in _TEXTS.get(kind, ()) and length <= LONGEST_TEXT:
            texts[field] = self._stream.read(length).decode("utf-8", "replace")
        else:
            self._stream.skip(length)

    def _note(self, kind: int, texts: "dict[int, str]") -> None:
        if kind == ENTRY and texts.get(1) == "location":
            self.places[texts.get(2, "")] = None
        elif kind == NODE:
            self.domains[texts.get(7, "")] = None
        elif kind == OPERATORS:
            self.domains[texts.get(1, "")] = None
        elif kind == FUNCTION:
            self.defined[texts.get(10, "")] = None

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._stream.read(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise ParseError(f"no number at byte {self._stream.position}")


def leaves(place: str) -> bool:
    """Does a path lead out of the directory that it is relative to, on any system?"""
    parts = place.replace("\\", "/").split("/")
    return not place or place[0] in "/\\~" or ":" in place or ".." in parts or "\0" in place
