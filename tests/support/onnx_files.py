"""ONNX files, written message by message: what a test needs of a graph, and nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT, EXTERNAL, INT64 = 1, 1, 7  # TensorProto.DataType, TensorProto.DataLocation
TYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.int64): INT64}


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def value_info(name: str, shape: Sequence[str | int], kind: int = FLOAT) -> bytes:
    dims = b"".join(field(1, field(2 if isinstance(n, str) else 1, n)) for n in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def node(kind: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    named = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)
    return named + b"".join(field(5, attribute) for attribute in attributes)


def tensor(name: str, values: NDArray[Any]) -> bytes:
    dims = b"".join(field(1, n) for n in values.shape)
    return dims + field(2, TYPES[values.dtype]) + field(8, name) + field(9, values.tobytes())


def model(
    nodes: Sequence[bytes],
    tensors: Sequence[bytes],
    *,
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    metadata: bytes = b"",
) -> bytes:
    graph = b"".join(field(1, its) for its in nodes) + field(2, "g")
    graph += b"".join(field(5, its) for its in tensors)
    graph += b"".join(field(11, its) for its in inputs)
    graph += b"".join(field(12, its) for its in outputs)
    return field(1, 8) + field(7, graph) + field(8, field(2, 17)) + metadata


CLASSES = ("ball", "cube")
LATENT, SIDE = 6, 16


def write_gan(
    path: Path,
    *,
    rows: int | str = "n",
    label: str = "",
    psi: Sequence[str | int] | None = None,
    named: bool = False,
    cut: str = "",
) -> Path:
    """A small network from noise to images: smooth shapes in colours, another set a class.

    Args:
        path: Where to.
        rows: Images at a time; a name is any number.
        label: "integers" or "one" where it takes a class.
        psi: Shape of a further number, which the noise is multiplied by.
        named: Whether its metadata name the classes.
        cut: What is wrong with it: "noise" has none, "deep" takes an image, "flat" gives none,
            "text" takes words, "wild" leaves a size of the noise open.
    """
    rng = np.random.default_rng(7)
    ys, xs = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    waves = [np.sin(np.pi * (a * xs + b * ys) + c) for a, b, c in rng.uniform(0.5, 3.5, (12, 3))]
    shapes = np.stack(waves).reshape(12, 1, -1) * rng.normal(size=(12, 3, 1))
    tensors = [
        tensor("w1", (0.7 * rng.normal(size=(LATENT, 12))).astype(np.float32)),
        tensor("w2", shapes.reshape(12, -1).astype(np.float32)),
        tensor("shape", np.array([-1, 3, SIDE, SIDE], np.int64)),
        tensor("classes", rng.normal(size=(2, 12)).astype(np.float32)),
    ]
    noise_shape: list[str | int] = [rows, "d" if cut == "wild" else LATENT]
    inputs = [value_info("z", noise_shape)]
    nodes, noise = [], "z"
    if psi is not None:
        inputs.append(value_info("psi", psi))
        nodes.append(node("Mul", ["z", "psi"], "scaled"))
        noise = "scaled"
    nodes += [node("MatMul", [noise, "w1"], "hidden")]
    if label == "integers":
        inputs.append(value_info("kind", [rows], INT64))
        nodes += [
            node("Gather", ["classes", "kind"], "added"),
            node("Add", ["hidden", "added"], "h"),
        ]
    elif label:
        inputs.append(value_info("class", [rows, 2]))
        nodes += [node("MatMul", ["class", "classes"], "added")]
        nodes += [node("Add", ["hidden", "added"], "h")]
    else:
        nodes += [node("Identity", ["hidden"], "h")]
    nodes += [node("Tanh", ["h"], "t"), node("MatMul", ["t", "w2"], "flat")]
    nodes += [node("Tanh", ["flat"], "toned"), node("Reshape", ["toned", "shape"], "image")]
    if cut == "noise":
        inputs = [value_info("z", [rows])]
    if cut == "deep":
        inputs.append(value_info("hint", [rows, 3, 8, 8]))
    if cut == "text":
        inputs.append(value_info("words", [rows], 8))
    output = "flat" if cut == "flat" else "image"
    shape = [rows, 3 * SIDE**2] if cut == "flat" else [rows, 3, SIDE, SIDE]
    said = field(14, field(1, "classes") + field(2, json.dumps(CLASSES))) if named else b""
    whole = model(
        nodes, tensors, inputs=inputs, outputs=[value_info(output, shape)], metadata=said
    )
    path.write_bytes(whole)
    return path
