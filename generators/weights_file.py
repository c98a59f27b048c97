"""Weights files: one .safetensors beside a pipeline, by its path or by its place in a repository.

`loras` and `embeddings` read theirs by it. It reads no pickle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.hub import ask_hub, cached_file, fetched_file
from gapclose.generators.model_files import (
    CARD,
    digest_files,
    is_pickle,
    local_folder,
    read_license,
)

__all__ = ["WeightsFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """Where a file of weights is.

    Attributes:
        path: A file that ends in .safetensors, a folder, or a hub id (owner/name).
        weight_name: File of the weights in a folder or repository.
        key: The key of the config that names both.
    """

    path: str
    weight_name: str
    key: str

    @property
    def file(self) -> Path | None:
        """The local file; None of a hub id."""
        if self.path.endswith(".safetensors"):
            return Path(self.path).expanduser()
        folder = local_folder(self.path)
        return None if folder is None else folder / self.weight_name

    @property
    def version(self) -> str | None:
        """A digest of a local file; of a hub id the commit, None before it is in the cache."""
        if (file := self.file) is not None:
            return digest_files(file.parent, [file]) if file.is_file() else None
        found = cached_file(self.path, self.weight_name)
        return None if found is None else found.parents[self.weight_name.count("/")].name

    @property
    def license(self) -> str | None:
        """The licence in the card beside it; None if there is none at hand."""
        if (file := self.file) is not None:
            return read_license(file.parent / CARD)
        card = cached_file(self.path, CARD)
        return None if card is None else read_license(card)

    def check_names(self) -> None:
        """Refuse what may be a pickle, or leaves its folder.

        Raises:
            GeneratorConfigError: One line that names the culprit and the remedy.
        """
        if not self.weight_name.endswith(".safetensors"):
            raise GeneratorConfigError(
                f"{self.weight_name!r} may be a pickle and run code; name a file that ends in "
                ".safetensors",
                key=f"{self.key}.weight_name",
            )
        if Path(self.weight_name).is_absolute() or ".." in Path(self.weight_name).parts:
            raise GeneratorConfigError(
                f"{self.weight_name!r} lies outside of its folder; name the file in path",
                key=f"{self.key}.weight_name",
            )
        if is_pickle(self.path):
            raise GeneratorConfigError(
                f"{self.path} may be a pickle and run code; name a .safetensors file",
                key=f"{self.key}.path",
            )

    def check(self) -> None:
        """Refuse weights that are not there.

        Raises:
            GeneratorConfigError: One line that names the culprit and the remedy.
        """
        if (file := self.file) is None:
            ask_hub(self.path, self.weight_name, key=f"{self.key}.path")
        elif not file.is_file():
            raise GeneratorConfigError(
                f"there is no file {file}; name a .safetensors file, or a folder or hub id and "
                "the weight_name in it",
                key=f"{self.key}.path",
            )

    def fetched(self) -> Path:
        """Return the file, fetched into the hub's cache where it is not local.

        Raises:
            GeneratorConfigError: As `check`.
        """
        self.check()
        file = self.file
        return fetched_file(self.path, self.weight_name) if file is None else file
