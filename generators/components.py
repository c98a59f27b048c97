"""Components: parts of a pipeline that are taken from elsewhere, or left out.

`diffusion` makes them from the config and `loading` loads them, by the classes that the index of
the pipeline names: another autoencoder, or no third text encoder. It reads safetensors only, and
runs no code from a model's repository.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gapclose.generators.errors import GeneratorConfigError, MemoryOutError
from gapclose.generators.hub import ask_hub, cached_file, fetched_file
from gapclose.generators.model_files import (
    CARD,
    check_weights,
    digest_files,
    files_in,
    is_pickle,
    local_folder,
    part_class,
    read_license,
)
from gapclose.generators.quiet import without_words

if TYPE_CHECKING:
    import torch

__all__ = ["EMPTY", "Component", "load_parts", "read_components"]

EMPTY: Final[Mapping[str, str | None]] = MappingProxyType({})
"""No part is from elsewhere."""

_KEY: Final = "generator.components"
_CONFIGS: Final = (
    *("config.json", "scheduler_config.json", "tokenizer_config.json"),
    *("preprocessor_config.json", "processor_config.json"),
)
"""One of them lies beside whatever is a part: a model, a scheduler, a tokenizer, a processor."""
# Classes name some of those that they can do without; this encoder of theirs they only test for.
_T5: Final = frozenset({"text_encoder_3", "tokenizer_3"})
_SPARED: Final = {"StableDiffusion3Pipeline": _T5, "StableDiffusion3PAGPipeline": _T5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A part of a pipeline.

    Attributes:
        name: Of the part, such as "vae".
        source: Hub id (owner/name) or folder of a pipeline or of the part alone; None leaves the
            part out.
    """

    name: str
    source: str | None

    @property
    def key(self) -> str:
        """The key of the config that names it."""
        return f"{_KEY}.{self.name}"

    @property
    def version(self) -> str | None:
        """A digest of a local folder; of a hub id the commit, None before it is in the cache."""
        if self.source is None:
            return f"no-{self.name}"
        if (folder := self._folder) is not None:
            return digest_files(folder, files_in(folder)) if folder.is_dir() else None
        found = next((its for name in _CONFIGS if (its := self.file(name)) is not None), None)
        if found is None:
            return None
        return found.parents[1 if self._subfolder else 0].name

    @property
    def license(self) -> str | None:
        """The licence in the card of where it is from; None if there is none at hand."""
        if self.source is None:
            return None
        if (folder := local_folder(self.source)) is not None:
            return read_license(folder / CARD)
        card = cached_file(self.source, CARD)
        return None if card is None else read_license(card)

    def file(self, name: str) -> Path | None:
        """A file of it: in the local folder, there or not, or in the hub's cache, else None."""
        if self.source is None:
            return None
        if (folder := self._folder) is not None:
            return folder / name
        return cached_file(self.source, f"{self._subfolder}{name}")

    @property
    def _folder(self) -> Path | None:
        """Its own local folder, where `source` is one of a whole pipeline as well."""
        folder = None if self.source is None else local_folder(self.source)
        if folder is None:
            return None
        return folder / self.name if (folder / self.name).is_dir() else folder

    @property
    def _subfolder(self) -> str:
        """Where it is in a repository of the hub, with a slash; empty at its top."""
        assert self.source is not None, "asked of parts that are somewhere"
        inside = (f"{self.name}/{name}" for name in _CONFIGS)
        is_inside = any(cached_file(self.source, name) is not None for name in inside)
        return f"{self.name}/" if is_inside else ""

    def check(
        self, parts: Mapping[str, tuple[str | None, str | None]], pipeline: type[Any] | None
    ) -> None:
        """Refuse a part that the pipeline has not, that is not there, or that it cannot spare.

        Args:
            parts: Library and class of each part of the pipeline; empty if they are not known yet.
            pipeline: Its class, None if it is not known yet.

        Raises:
            GeneratorConfigError: One line that names the culprit and the remedy.
        """
        if parts and self.name not in parts:
            near = difflib.get_close_matches(self.name, parts, n=1, cutoff=0.0)[0]
            raise GeneratorConfigError(
                f"the pipeline has no part {self.name!r}; did you mean {near!r}? "
                f"({', '.join(sorted(parts))})",
                key=_KEY,
            )
        if self.source is None:
            self._check_spared(parts, pipeline)
            return
        if parts:
            part_class(*parts[self.name], key=self.key)
        if (folder := self._folder) is None:
            self._ask()
        elif not any((folder / name).is_file() for name in _CONFIGS):
            raise GeneratorConfigError(
                f"{self.source} holds no {self.name}; name the folder of a part, or of a pipeline "
                "that has one, or a hub id (owner/name)",
                key=self.key,
            )
        else:
            check_weights(folder, key=self.key)

    def _check_spared(
        self, parts: Mapping[str, tuple[str | None, str | None]], pipeline: type[Any] | None
    ) -> None:
        if pipeline is None:
            return
        spared = _SPARED.get(pipeline.__name__, frozenset[str]())
        spared |= {*getattr(pipeline, "_optional_components", ())}
        spared |= {name for name, (_, kind) in parts.items() if kind is None}
        if self.name not in spared:
            least = sorted(spared & {*parts}) if parts else sorted(spared)
            raise GeneratorConfigError(
                f"a {pipeline.__name__} needs its {self.name}; it can do without "
                f"{', '.join(least) or 'none'}",
                key=self.key,
            )

    def _ask(self) -> str:
        """Ask the hub for its config, at both places where it may be, and name the file."""
        assert self.source is not None, "asked of parts that are somewhere"
        names = (*(f"{self.name}/{name}" for name in _CONFIGS), *_CONFIGS)
        for name in names:
            if cached_file(self.source, name) is not None:
                return name
        for name in names:
            try:
                ask_hub(self.source, name, key=self.key)
            except GeneratorConfigError as error:
                if "has no file" not in error.problem or name == names[-1]:
                    raise
            else:
                return name
        raise AssertionError("the last one is raised")

    def load(self, kind: type[Any], dtype: torch.dtype) -> Any:
        """Load it, by a class of diffusers or transformers.

        Raises:
            GeneratorConfigError: If it cannot be loaded.
            MemoryOutError: If it does not fit into memory.
        """
        import torch
        from safetensors import SafetensorError
        from transformers import PreTrainedModel

        assert self.source is not None, "it is not left out"
        folder = self._folder
        if folder is not None:
            check_weights(folder, key=self.key)
            options: dict[str, Any] = {"local_files_only": True}
        else:
            fetched_file(self.source, self._ask())  # then the cache knows where it is
            options = {"subfolder": self._subfolder.strip("/")}
        if issubclass(kind, torch.nn.Module):
            options |= {"use_safetensors": True, "torch_dtype": dtype}
            options["output_loading_info"] = True
            if issubclass(kind, PreTrainedModel):
                options["dtype"] = options.pop("torch_dtype")
        source = self.source if folder is None else str(folder)
        try:
            with without_words():
                found = kind.from_pretrained(source, **options)
        except torch.OutOfMemoryError as error:
            raise MemoryOutError(f"{self.source} does not fit into memory") from error
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            said = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise GeneratorConfigError(
                f"{self.source} cannot be loaded as a {kind.__name__}: {said}", key=self.key
            ) from error
        if not options.get("output_loading_info"):
            return found
        part, told = found
        # Of another class, such as a tiny autoencoder: what it lacks would be random.
        if lost := sorted(told["missing_keys"]):
            raise GeneratorConfigError(
                f"{self.source} lacks {len(lost)} weights of a {kind.__name__}, {lost[0]} among "
                "them; name a part of this class",
                key=self.key,
            )
        return part


def load_parts(
    components: Sequence[Component],
    parts: Mapping[str, tuple[str | None, str | None]],
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Load parts, each by the class that the pipeline's index names; None for one left out.

    Args:
        components: To load.
        parts: Library and class of each part of the pipeline.
        dtype: Of their weights; an autoencoder's are float32.

    Raises:
        GeneratorConfigError, MemoryOutError: As `Component.load`.
    """
    import torch

    return {
        its.name: None
        if its.source is None
        else its.load(
            part_class(*parts[its.name], key=its.key),
            torch.float32 if its.name == "vae" else dtype,
        )
        for its in components
    }


def read_components(options: Mapping[str, Any]) -> tuple[Component, ...]:
    """Read parts of a pipeline and where each is from.

    Raises:
        GeneratorConfigError: One line that names the culprit and the remedy.
    """
    components = []
    for name, source in options.items():
        if source is not None and (not isinstance(source, str) or not source):
            raise GeneratorConfigError(
                f"{source!r} is no folder or hub id; null leaves a part out", key=f"{_KEY}.{name}"
            )
        if source is not None and (is_pickle(source) or source.endswith(".safetensors")):
            raise GeneratorConfigError(
                f"{source} is a single file; name the folder that save_pretrained wrote",
                key=f"{_KEY}.{name}",
            )
        components.append(Component(name=str(name), source=source))
    return tuple(components)
