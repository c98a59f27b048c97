"""LoRAs: small weights beside a pipeline's own, whose scales are parameters of a draw.

`diffusion` makes `Lora`s from the config, `pipeline` loads them once, and each call sets their
scales: nothing is merged, so that a search may go from one scale to another (Hu et al. 2021, arXiv
2106.09685). It reads safetensors only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gapclose.generators.errors import GeneratorConfigError, MemoryOutError
from gapclose.generators.loading import first_line, silent_loading
from gapclose.generators.parameters import Parameter, check_name
from gapclose.generators.quiet import without_words
from gapclose.generators.weights_file import WeightsFile

__all__ = ["Lora", "LoraScales", "read_loras"]

_KEY: Final = "generator.loras"
_DEFAULT: Final = "pytorch_lora_weights.safetensors"  # what diffusers writes
MOST: Final = 10.0
"""Of a scale, either way; images are noise long before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Where the weights of a LoRA are, and its scale where a draw names none.

    Attributes:
        path: A file that ends in .safetensors, a folder, or a hub id (owner/name).
        name: Of it; letters, digits and _.
        weight: The scale, from -10 to 10: 0 is without it, 1 as it was trained.
        weight_name: File of the weights in a folder or repository.
    """

    path: str
    name: str
    weight: float = 1.0
    weight_name: str = _DEFAULT

    @property
    def parameter(self) -> str:
        """What a draw's parameters call its scale."""
        return f"lora_{self.name}"

    @property
    def weights(self) -> WeightsFile:
        """Where its weights are."""
        return WeightsFile(path=self.path, weight_name=self.weight_name, key=_KEY)

    @property
    def version(self) -> str | None:
        """A digest of a local file; of a hub id the commit, None before it is in the cache."""
        return self.weights.version

    @property
    def license(self) -> str | None:
        """The licence in the card beside it; None if there is none at hand."""
        return self.weights.license

    def check(self) -> None:
        """Refuse weights that are not there.

        Raises:
            GeneratorConfigError: One line that names the culprit and the remedy.
        """
        self.weights.check()


class LoraScales:
    """The LoRAs of a loaded pipeline, at the scales of the last call."""

    def __init__(self, pipeline: Any, loras: Sequence[Lora]) -> None:
        """Load LoRAs into a pipeline of diffusers.

        Raises:
            GeneratorConfigError: The pipeline takes none, or not these.
            MemoryOutError: They do not fit into memory.
        """
        self._pipeline, self._loras = pipeline, tuple(loras)
        self._set: tuple[float, ...] | None = None
        for lora in loras:
            _load(pipeline, lora)

    @property
    def scales(self) -> tuple[float, ...] | None:
        """Those of the last call; None before there was one."""
        return self._set

    @property
    def parameters(self) -> frozenset[str]:
        """Names of the scales."""
        return frozenset(lora.parameter for lora in self._loras)

    def set_for(self, parameters: Mapping[str, Parameter]) -> None:
        """Set the scales that a draw names, and of all others their own."""
        scales = tuple(_scale(lora, parameters) for lora in self._loras)
        if scales != self._set:
            names = [lora.name for lora in self._loras]
            self._pipeline.set_adapters(names, adapter_weights=[*scales])
            self._set = scales


def read_loras(options: Sequence[Mapping[str, Any]]) -> tuple[Lora, ...]:
    """Read the keys of LoRAs.

    Raises:
        GeneratorConfigError: One line that names the culprit and the remedy.
    """
    loras = []
    for own in options:
        if unknown := {*own} - {*Lora.__dataclass_fields__}:
            raise GeneratorConfigError(
                f"{min(unknown)} is no key here; path, name, weight and weight_name are", key=_KEY
            )
        path = str(own.get("path", ""))
        name = own.get("name") or _named(path)
        lora = Lora(**{**own, "path": path, "name": name})
        _check(lora)
        loras.append(lora)
    names = [lora.name for lora in loras]
    for name in names:
        if names.count(name) > 1:
            raise GeneratorConfigError(
                f"two are called {name!r}; give each a name of its own", key=_KEY
            )
    return tuple(loras)


def _named(path: str) -> str:
    """Name a LoRA by its file, or by its folder where the file has the usual name."""
    place = Path(path)
    stem = place.parent.name if place.name == _DEFAULT else place.stem
    name = re.sub(r"\W+", "_", stem, flags=re.ASCII).strip("_").lower()
    return name or hashlib.sha256(path.encode()).hexdigest()[:8]


def _check(lora: Lora) -> None:
    if not lora.path:
        raise GeneratorConfigError("a LoRA needs a path", key=_KEY)
    lora.weights.check_names()
    try:
        check_name(lora.parameter)
    except ValueError:
        raise GeneratorConfigError(
            f"{lora.name!r} is no name; take letters, digits and _", key=f"{_KEY}.name"
        ) from None
    if isinstance(lora.weight, bool) or not abs(lora.weight) <= MOST:
        raise GeneratorConfigError(
            f"{lora.weight!r} is no scale from {-MOST:g} to {MOST:g}", key=f"{_KEY}.weight"
        )


def _scale(lora: Lora, parameters: Mapping[str, Parameter]) -> float:
    value = parameters.get(lora.parameter, lora.weight)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not abs(value) <= MOST:  # type: ignore[arg-type]
        raise GeneratorConfigError(
            f"{value!r} is no scale of a LoRA; take a number from {-MOST:g} to {MOST:g}",
            key=f"space.parameters.{lora.parameter}",
        )
    return float(value)  # type: ignore[arg-type]


def _load(pipeline: Any, lora: Lora) -> None:
    import torch
    from safetensors import SafetensorError

    kind = type(pipeline).__name__
    if not hasattr(pipeline, "load_lora_weights") or not hasattr(pipeline, "set_adapters"):
        raise GeneratorConfigError(f"a {kind} takes none; leave it out", key=_KEY)
    file = lora.weights.file
    source, weight_name = (
        (lora.path, lora.weight_name) if file is None else (str(file.parent), file.name)
    )
    try:
        with silent_loading(), torch.random.fork_rng(devices=[]), without_words():
            pipeline.load_lora_weights(
                source,
                weight_name=weight_name,
                adapter_name=lora.name,
                use_safetensors=True,
                **({} if file is None else {"local_files_only": True}),
            )
    except torch.OutOfMemoryError as error:
        raise MemoryOutError(f"{lora.path} does not fit into memory") from error
    except ImportError as error:
        raise GeneratorConfigError("LoRAs need peft; pip install peft", key=_KEY) from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise GeneratorConfigError(
            f"{lora.path} is no LoRA of a {kind}: {first_line(error)}", key=f"{_KEY}.path"
        ) from error
    if lora.name not in {name for its in pipeline.get_list_adapters().values() for name in its}:
        raise GeneratorConfigError(
            f"{lora.path} has no weights for a {kind}; name a LoRA of this family",
            key=f"{_KEY}.path",
        )
