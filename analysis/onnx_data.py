"""ONNX external data: the files beside an ONNX model that hold its large tensors.

`weights` asks which a model names, so that an embedder's identity changes with them. It reads the
framing of the messages alone, by the field numbers of onnx.proto3 (ONNX IR version 10), loads no
tensor, and refuses what is no such file.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import Final, Literal

__all__ = ["external_files"]

_Kind = Literal["model", "training", "graph", "function", "node", "attribute", "sparse", "tensor"]

# Of each message the fields that may hold a tensor further down.
_BELOW: Final[dict[_Kind, dict[int, _Kind]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}  # fmt: skip
_EXTERNAL_DATA: Final = 13  # of a TensorProto: entries of a key and a value
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protobuf
_WIDTH: Final = {_FIXED64: 8, _FIXED32: 4}


def external_files(model: bytes | mmap) -> set[str]:
    """Return the files that a model's tensors name, as they stand there.

    Args:
        model: A serialised ModelProto.

    Raises:
        ValueError: It is none.
    """
    found = set()
    pending: list[tuple[_Kind, int, int]] = [("model", 0, len(model))]
    while pending:
        kind, start, end = pending.pop()
        for number, begin, stop in _fields(model, start, end):
            if (below := _BELOW[kind].get(number)) is not None:
                pending.append((below, begin, stop))
            elif kind == "tensor" and number == _EXTERNAL_DATA:
                entry = {key: model[a:b] for key, a, b in _fields(model, begin, stop)}
                if entry.get(1) == b"location":
                    found.add(entry.get(2, b"").decode())
    return found


def _fields(model: bytes | mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the fields of a message that have a length: number, and where the content lies.

    Source: protobuf's encoding, https://protobuf.dev/programming-guides/encoding/
    """
    at = start
    while at < end:
        tag, at = _varint(model, at, end)
        wire = tag & 7
        if wire == _BYTES:
            length, at = _varint(model, at, end)
            if at + length > end:
                raise ValueError("a field is longer than what holds it")
            yield tag >> 3, at, at + length
            at += length
        elif wire == _VARINT:
            _, at = _varint(model, at, end)
        elif wire in _WIDTH:
            at += _WIDTH[wire]
        else:
            raise ValueError(f"a field of wire type {wire}")


def _varint(model: bytes | mmap, at: int, end: int) -> tuple[int, int]:
    """Read an integer of up to ten bytes, seven bits each; return it and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("it is cut off")
        byte = model[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("an integer without an end")
