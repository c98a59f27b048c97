"""Encoders of any origin as ONNX graphs.

Made by `make_embedder` from `onnx:PATH`. The graph takes `pixels`, float (n, 3, h, w) in [0, 1],
and gives `features`; normalisation is inside it. It knows no words.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from gapclose.analysis.confounds import resize
from gapclose.analysis.embedding import unit_rows
from gapclose.analysis.errors import EmbedderError

_BATCH: Final = 64
_DEFAULT_SIZE: Final = 224  # of a graph that takes any size; one size keeps rows comparable


class OnnxEmbedder:
    """An ONNX graph.

    Attributes:
        id: The name it was made from.
        width: Length of a row.
    """

    def __init__(self, name: str, target: str, *, device: str = "auto") -> None:
        """Open a graph.

        Args:
            name: The embedder's full name.
            target: Path of the .onnx file.
            device: auto, cpu or cuda.

        Raises:
            EmbedderError: If it is no such graph.
        """
        self.id = name
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        threads = os.environ.get("OMP_NUM_THREADS", "")
        if threads.isdigit():  # as torch does; onnxruntime's own builds do not read it
            options.intra_op_num_threads = int(threads)
        # Threads that spin while they wait take the cores from every other process.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(Path(target).expanduser()), options, providers=_providers(device)
            )
        except Exception as error:  # its errors share no narrower base class
            why = " ".join(str(error).split())[:200]
            raise EmbedderError(f"not an ONNX graph: {why}", name=name) from error
        inputs = {node.name: node.shape for node in self._session.get_inputs()}
        outputs = [node.name for node in self._session.get_outputs()]
        shape = inputs.get("pixels", [])
        if list(inputs) != ["pixels"] or "features" not in outputs or len(shape) != 4:
            raise EmbedderError(
                f"takes {sorted(inputs)} and gives {outputs}; export it with "
                "one input `pixels` (n,3,h,w) in [0,1] and an output `features`",
                name=name,
            )
        self._rows = shape[0] if isinstance(shape[0], int) else None
        height, width = (d if isinstance(d, int) else _DEFAULT_SIZE for d in shape[2:])
        self._size = (height, width)
        self.width = int(self._features([np.zeros((*self._size, 3), np.uint8)]).shape[1])

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed (h, w, 3) images of any sizes: (n, width), rows of length 1.

        An image of another size is cut in the middle to the graph's aspect and resized.
        """
        if not len(images):
            return np.zeros((0, self.width), dtype=np.float32)
        step = self._rows or _BATCH
        return unit_rows(
            np.concatenate(
                [self._features(images[at : at + step]) for at in range(0, len(images), step)]
            )
        )

    def _features(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        ready = [i if i.shape[:2] == self._size else resize(i, size=self._size) for i in images]
        pixels = np.stack(ready).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255.0)
        n = len(pixels)
        if self._rows:  # a graph that was exported for a fixed number of images
            pixels = np.pad(pixels, ((0, self._rows - n), (0, 0), (0, 0), (0, 0)))
        features = self._session.run(["features"], {"pixels": pixels})[0][:n]
        return np.asarray(features, dtype=np.float32).reshape(n, -1)


def _providers(device: str) -> list[str]:
    cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    wanted = device == "auto" or device.startswith("cuda")
    return [*(["CUDAExecutionProvider"] if cuda and wanted else []), "CPUExecutionProvider"]
