"""Models that draw an image from noise, as ONNX graphs: GANs, decoders, one-step samplers.

`registry` makes it. A graph is data, not code: what was trained anywhere is exported to it once.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from gapclose.generators.base import check_parameters, checked_seeds
from gapclose.generators.errors import GenerationError, GeneratorConfigError, MemoryOutError
from gapclose.generators.images import ImageBatch, to_pixels
from gapclose.generators.recipe import Draw

TRUNCATION: Final = "truncation"
"""The parameter that noise is truncated by, unless the graph has an input of this name."""

_STREAM: Final = 0x0A11  # of random numbers: no other kind's
_FLOATS: Final = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_FLOATS_TOO: Final = {**_FLOATS, "tensor(double)": np.float64}
_INTEGERS: Final = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_CLASSES: Final = "classes"  # in a graph's metadata, a JSON list


class OnnxGenerator:
    """A graph that takes noise, and perhaps a class, and gives images.

    Its inputs are told apart by what they are:

    * noise, float (n, d) or (n, c, h, w): standard normal, by the image's seed. The parameter
      `truncation` t > 0 has it from [-t, t] alone (the truncation trick of Brock et al. 2019,
      "Large Scale GAN Training", section 3.1): fewer kinds of images, each cleaner;
    * the class, if there is one: integers (n,), or float (n, k) of which one is 1;
    * numbers, float () or (1,) or (n,): parameters of the draw, by the inputs' names, such as the
      truncation psi of a StyleGAN, or a temperature.

    The first output is the images, (n, 3, h, w) or (n, h, w, 3), grey ones with 1 for 3: floats in
    `range`, or bytes. Where several inputs could be the noise it is that called `z` or `latent`.

    Args:
        model: Path of the .onnx file, its tensors inside.
        classes: Names of the classes in the order that the graph counts them; else those in the
            metadata of the graph, "classes", a JSON list.
        range: What black and white are.
        batch_size: Images at a time.
        device: auto (CUDA if onnxruntime has it), cpu or cuda.
        license: Of its images.

    Raises:
        GeneratorConfigError: A value is none of these.
    """

    settings: Final[tuple[str, ...]] = ()
    source_type: Final = "trainedAlgorithmicMedia"

    def __init__(
        self,
        model: str | Path,
        *,
        classes: Sequence[str] | None = None,
        range: Sequence[float] = (-1.0, 1.0),
        batch_size: int = 32,
        device: str = "auto",
        license: str | None = None,
    ) -> None:
        """Check the values; nothing is loaded yet."""
        self._path = Path(model).expanduser()
        self._named = None if classes is None else tuple(classes)
        if len(range) != 2 or not range[0] < range[1]:
            raise GeneratorConfigError(
                "give the values of black and of white, such as [-1, 1]", key="generator.range"
            )
        if int(batch_size) < 1:
            raise GeneratorConfigError("must be at least 1", key="generator.batch_size")
        if device not in ("auto", "cpu", "cuda"):
            raise GeneratorConfigError("must be auto, cpu or cuda", key="generator.device")
        self._black, self._white = float(range[0]), float(range[1])
        self._batch_size, self._device, self.license = int(batch_size), device, license

    @property
    def id(self) -> str:
        """`onnx:` and the file's name."""
        return f"onnx:{self._path.name}"

    @cached_property
    def revision(self) -> str | None:
        """A digest of the file; None where there is none."""
        if not self._path.is_file():
            return None
        with self._path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The graph's numbers by their names, and `truncation`."""
        return tuple(dict.fromkeys((*self._graph.numbers, TRUNCATION)))

    def check(self) -> None:
        """Refuse a file that is no such graph.

        Raises:
            GeneratorConfigError: It is none, or is not there.
        """
        _ = self._graph

    def check_class(self, cls: str | None) -> None:
        """Refuse a class that a graph which takes one does not have.

        Raises:
            GeneratorConfigError: One line that names those that it has.
        """
        if self._graph.label is not None:
            self._number_of(cls)

    def _number_of(self, cls: str | None) -> int:
        known = self._named or self._graph.classes
        if not known:
            raise GeneratorConfigError(
                f"{self.id} takes a class and does not name them; list them in its order",
                key="generator.classes",
            )
        if cls not in known:
            raise GeneratorConfigError(
                f"{self.id} has no class {cls!r}; it has {', '.join(known)[:200]}",
                key="generator.classes",
            )
        return known.index(cls)

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """Generate one image per seed.

        Raises:
            ValueError: If the seeds are not distinct integers in [0, 2**63).
            GeneratorConfigError: A parameter or class is unknown, or a value is no number.
            GenerationError: The graph fails, or gives no images.
        """
        return self.generate_all([(draw, seeds)])[0]

    def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
        """Generate the images of several draws, in batches that they share.

        Raises:
            ValueError, GeneratorConfigError, GenerationError: As `generate`, for all jobs at once.
        """
        plain = [(draw, checked_seeds(seeds)) for draw, seeds in jobs]
        asked = [(draw, seed) for draw, seeds in plain for seed in seeds]
        made: list[tuple[NDArray[np.uint8], str | None]] = []
        for group in self._batches(asked):
            made += self._drawn(group)
        rest = iter(made)
        return [
            ImageBatch.gather(seeds, {seed: next(rest) for seed in seeds}) for _, seeds in plain
        ]

    def _batches(self, asked: Sequence[tuple[Draw, int]]) -> list[Sequence[tuple[Draw, int]]]:
        """Cut images into batches; numbers that a graph takes once are the same in each."""
        groups: list[list[tuple[Draw, int]]] = []
        graph = self._graph
        for draw, seed in asked:
            last = groups[-1] if groups else []
            alike = last and all(
                last[0][0].parameters.get(name) == draw.parameters.get(name)
                for name in graph.shared
            )
            if alike and len(last) < (graph.rows or self._batch_size):
                last.append((draw, seed))
            else:
                groups.append([(draw, seed)])
        return [*groups]

    def _drawn(
        self, group: Sequence[tuple[Draw, int]]
    ) -> list[tuple[NDArray[np.uint8], str | None]]:
        graph, n = self._graph, len(group)
        for draw, _ in group:
            check_parameters(self, draw.parameters)
        noise = np.stack([graph.noise_of(seed, self._truncation(draw)) for draw, seed in group])
        inputs: dict[str, NDArray[Any]] = {graph.noise: noise.astype(graph.types[graph.noise])}
        if graph.label is not None:
            numbers = [self._number_of(draw.cls) for draw, _ in group]
            inputs[graph.label] = graph.labels(numbers)
        for name in graph.numbers:
            values = [_number(draw, name) for draw, _ in group]
            inputs[name] = graph.numbers_of(name, values)
        if graph.rows:  # a graph that was exported for a fixed number of images
            inputs = {
                name: value
                if name in graph.shared
                else np.concatenate([value, np.repeat(value[-1:], graph.rows - n, axis=0)])
                for name, value in inputs.items()
            }
        images = self._pixels(graph.run(inputs, name=self.id))[:n]
        if len(images) != n:
            raise GenerationError(f"{self.id} gave {len(images)} images for {n}")
        pixels, marks = to_pixels(images, flagged=[False] * n)
        return [*zip(pixels, marks, strict=True)]

    def _truncation(self, draw: Draw) -> float:
        if TRUNCATION in self._graph.numbers or TRUNCATION not in draw.parameters:
            return math.inf
        value = _number(draw, TRUNCATION)
        if not value > 0:
            raise GeneratorConfigError(
                f"must be above 0, not {value:g}", key="space.parameters.truncation"
            )
        return value

    def _pixels(self, output: NDArray[Any]) -> NDArray[np.float32]:
        """Return images (n, h, w, 3) in [0, 1]."""
        if output.ndim != 4 or not {1, 3} & {output.shape[1], output.shape[3]}:
            raise GenerationError(
                f"{self.id} gives {output.shape}; images are (n, 3, h, w) or (n, h, w, 3)"
            )
        if output.shape[3] not in (1, 3):
            output = output.transpose(0, 2, 3, 1)
        if output.dtype == np.uint8:
            images = output.astype(np.float32) / np.float32(255.0)
        else:
            images = (output.astype(np.float32) - self._black) / (self._white - self._black)
        return np.repeat(images, 3 // images.shape[3], axis=3)

    @cached_property
    def _graph(self) -> _Graph:
        try:
            model = self._path.read_bytes()
        except OSError as error:
            why = error.strerror or "it cannot be read"
            raise GeneratorConfigError(f"{self._path}: {why}", key="generator.model") from None
        try:
            return _Graph(model, device=self._device)
        except ValueError as error:
            raise GeneratorConfigError(
                f"{self._path.name}: {error}", key="generator.model"
            ) from error


class _Graph:
    """An open graph, and what its inputs are.

    Attributes:
        noise: Name of the input of noise.
        label: Of the class; None where there is none.
        numbers: Of the others.
        shared: Those of them that a batch has one value of.
        types: The inputs' NumPy types, by name.
        rows: Images that it draws at a time; None for any number.
        classes: Names in its metadata.
    """

    def __init__(self, model: bytes, *, device: str) -> None:
        """Open it.

        Raises:
            ValueError: It is no graph, or none that draws images from noise; one line.
        """
        self._session = _session(model, device)
        inputs = {node.name: node for node in self._session.get_inputs()}
        self._shapes = {name: [*node.shape] for name, node in inputs.items()}
        types = {name: node.type for name, node in inputs.items()}
        known = _FLOATS_TOO | _INTEGERS
        if strange := [name for name, kind in types.items() if kind not in known]:
            raise ValueError(f"its input {strange[0]} is a {types[strange[0]]}")
        self.types = {name: known[kind] for name, kind in types.items()}
        self.label = self._label(types)
        wide = [
            name
            for name, kind in types.items()
            if kind in _FLOATS_TOO and len(self._shapes[name]) >= 2 and name != self.label
        ]
        if len(wide) > 1:
            wide = [name for name in wide if name in ("z", "latent", "noise")] or wide
        if len(wide) != 1:
            raise ValueError(
                f"it takes {', '.join(inputs) or 'nothing'}; one input is noise, (n, d) or "
                "(n, c, h, w), and is called z where there are others"
            )
        self.noise = wide[0]
        first, *size = self._shapes[self.noise]
        if not all(isinstance(its, int) and its > 0 for its in size):
            raise ValueError(
                f"its input {self.noise} is {self._shapes[self.noise]}; fix all of it but n"
            )
        self._size = tuple(size)
        self.rows = first if isinstance(first, int) and first > 0 else None
        self.numbers = tuple(name for name in inputs if name not in (self.noise, self.label))
        if odd := [name for name in self.numbers if len(self._shapes[name]) > 1]:
            raise ValueError(f"its input {odd[0]} is neither noise, class nor a number")
        self.shared = tuple(name for name in self.numbers if self._shapes[name] in ([], [1]))
        self.classes = _classes(self._session)

    def _label(self, types: Mapping[str, str]) -> str | None:
        """Return the input that is the class, if one is."""
        named = ("class", "cls", "label", "labels", "class_labels", "c", "y")
        for name, kind in types.items():
            shape = self._shapes[name]
            if kind in _INTEGERS and len(shape) == 1:
                return name
            if kind in _FLOATS_TOO and len(shape) == 2 and name.lower() in named:
                return name
        return None

    def noise_of(self, seed: int, truncation: float) -> NDArray[np.float64]:
        """Return the noise of a seed; what truncation leaves alone is the same under each."""
        uniform = np.random.default_rng([seed, _STREAM]).random(self._size)
        low = float(ndtr(-truncation))
        inside = low + np.clip(uniform, 1e-12, 1.0 - 1e-12) * (1.0 - 2.0 * low)
        return np.asarray(ndtri(inside))

    def labels(self, numbers: Sequence[int]) -> NDArray[Any]:
        """Return classes as the graph takes them."""
        assert self.label is not None, "asked only where there is one"
        shape = self._shapes[self.label]
        if len(shape) == 1:
            return np.array(numbers, dtype=self.types[self.label])
        count = shape[1] if isinstance(shape[1], int) else max(numbers) + 1
        if max(numbers) >= count:
            raise GeneratorConfigError(
                f"lists more classes than the graph's {count}", key="generator.classes"
            )
        return np.eye(count, dtype=self.types[self.label])[numbers]

    def numbers_of(self, name: str, values: Sequence[float]) -> NDArray[Any]:
        """Return a parameter as the graph takes it."""
        shape = self._shapes[name]
        if self.types[name] in _INTEGERS.values() and not all(map(float.is_integer, values)):
            raise GeneratorConfigError("must be a whole number", key=f"space.parameters.{name}")
        taken = values if name not in self.shared else values[0] if shape == [] else values[:1]
        return np.array(taken, dtype=self.types[name])

    def run(self, inputs: Mapping[str, NDArray[Any]], *, name: str) -> NDArray[Any]:
        """Return the first output.

        Raises:
            GenerationError: The graph fails.
        """
        output = self._session.get_outputs()[0].name
        try:
            return np.asarray(self._session.run([output], dict(inputs))[0])
        except Exception as error:  # its errors share no narrower base class
            why = " ".join(str(error).split())[:300]
            if "alloc" in why.lower() and "memory" in why.lower():
                raise MemoryOutError(f"{name}: {why}") from error
            raise GenerationError(f"{name}: {why}") from error


def _session(model: bytes, device: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit():  # as torch does; onnxruntime's own builds do not read it
        options.intra_op_num_threads = int(threads)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "cuda" and not cuda:
        raise ValueError("this onnxruntime has no CUDA; install onnxruntime-gpu, or say cpu")
    first = ["CUDAExecutionProvider"] if cuda and device != "cpu" else []
    try:
        # From its bytes: a graph whose tensors lie in other files could name any of them.
        return onnxruntime.InferenceSession(
            model, options, providers=[*first, "CPUExecutionProvider"]
        )
    except Exception as error:  # its errors share no narrower base class
        why = " ".join(str(error).split())[:200]
        raise ValueError(
            f"no ONNX graph that can be run: {why} (one whose tensors lie in other files has to "
            "be saved as one)"
        ) from error


def _classes(session: Any) -> tuple[str, ...]:
    """Return the names of classes in a graph's metadata; none if it has no list of words."""
    said = session.get_modelmeta().custom_metadata_map.get(_CLASSES, "[]")
    try:
        names = json.loads(said)
    except (ValueError, RecursionError):
        return ()
    whole = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if whole else ()


def _number(draw: Draw, name: str) -> float:
    value = draw.parameters.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        problem = "is missing" if value is None else f"must be a number, not {value!r}"
        raise GeneratorConfigError(problem, key=f"space.parameters.{name}")
    return float(value)
