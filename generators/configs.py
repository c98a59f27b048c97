"""Configs: the small files of a saved pipeline, its index and the config of each part.

`checkpoint` answers by them what fits a pipeline, without loading it: they lie in a folder, or in
the hub's cache. Those of a part that is taken from elsewhere are read there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gapclose.generators.components import Component
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.hub import ask_hub, cached_file, fetched_file
from gapclose.generators.model_files import local_folder

__all__ = ["INDEX", "Configs"]

INDEX: Final = "model_index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configs:
    """Where a pipeline's index and configs are.

    Attributes:
        source: A folder or a hub id; None if it is not known.
        revision: Commit or tag on the hub.
        components: Parts that are taken from elsewhere, or left out.
        key: The key of the run's config that names them.
        hint: What to say instead where the hub cannot be asked; empty for what it says itself.
    """

    source: str | None
    revision: str | None = None
    components: tuple[Component, ...] = ()
    key: str = "generator.model"
    hint: str = ""

    @property
    def folder(self) -> Path | None:
        """The local folder; None on the hub."""
        return None if self.source is None else local_folder(self.source)

    def file(self, name: str) -> Path | None:
        """A file of it: in the local folder, there or not, or in the hub's cache, else None."""
        part, _, rest = name.partition("/")
        for component in self.components:
            if rest and component.name == part:
                return component.file(rest)
        if self.source is None:
            return None
        if (folder := self.folder) is not None:
            return folder / name
        return cached_file(self.source, name, revision=self.revision)

    def fetch(self, name: str) -> None:
        """Have a file of a hub id in the hub's cache; a local one is there, or is not.

        Raises:
            GeneratorConfigError: The hub has no such model, or cannot be reached.
        """
        own = any(name.startswith(f"{component.name}/") for component in self.components)
        if self.source is None or self.folder is not None or own:
            return
        try:
            fetched_file(self.source, name, revision=self.revision)
        except GeneratorConfigError:
            if not self.hint:
                raise
            raise GeneratorConfigError(self.hint, key=self.key) from None

    def ask(self) -> None:
        """Ask the hub for the index, without fetching it.

        Raises:
            GeneratorConfigError: As `fetch`.
        """
        if self.source is None or self.folder is not None:
            return
        try:
            ask_hub(self.source, INDEX, revision=self.revision, key=self.key)
        except GeneratorConfigError:
            if not self.hint:
                raise
            raise GeneratorConfigError(self.hint, key=self.key) from None

    def read(self, name: str) -> dict[str, Any]:
        """Return what a JSON file of it says; nothing if it is not at hand."""
        path = self.file(name)
        try:
            found = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # loading will tell
        return found if isinstance(found, dict) else {}

    def parts(self) -> dict[str, tuple[str | None, str | None]]:
        """Return each part's library and class, as the index names them; None for both is none."""
        found = self.read(INDEX).items()
        return {
            name: (its[0], its[1])
            for name, its in found
            if not name.startswith("_")
            and isinstance(its, list)
            and len(its) == 2
            and all(word is None or isinstance(word, str) for word in its)
        }

    def saved_class(self) -> type[Any] | None:
        """Return the class that it was saved from; None if it is not at hand, or no known one."""
        name = self.read(INDEX).get("_class_name")
        if not isinstance(name, str):
            return None
        import diffusers

        found = getattr(diffusers, name, None)  # loading will tell
        return found if isinstance(found, type) else None

    def version(self) -> str | None:
        """The commit on the hub, None before it is in the cache; a local folder has none here."""
        index = self.file(INDEX)
        return self.revision if index is None else index.parent.name
