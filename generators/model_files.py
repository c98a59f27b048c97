"""Model files: where a model's folder or file is, its digest, its licence, and what it may hold.

`checkpoint` and whatever is loaded beside a pipeline read models' files by it. It loads nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gapclose.generators.errors import GeneratorConfigError

__all__ = [
    "CARD",
    "POND",
    "check_weights",
    "digest_files",
    "files_in",
    "is_pickle",
    "local_folder",
    "part_class",
    "read_license",
    "with_licenses",
]

POND: Final = Path(__file__).parent / "pond" / "sd"
"""The pipeline that ships: what `model: pond` means."""

CARD: Final = "README.md"
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PICKLES: Final = frozenset({".bin", ".ckpt", ".pt", ".pth"})


def is_pickle(path: str | Path) -> bool:
    """Return whether a file's name says that it is a pickle, which runs code when it is read."""
    return Path(path).suffix.lower() in _PICKLES


def check_weights(folder: Path, *, key: str) -> None:
    """Refuse a folder whose weights are pickles, which run code when they are read.

    Raises:
        GeneratorConfigError: If it has no other, or names shards that lie outside of it.
    """
    for index in folder.rglob("*.safetensors.index.json"):
        _check_shards(index, key=key)
    if any(folder.rglob("*.safetensors")):
        return
    pickles = [
        path for kind in ("*.bin", "*.ckpt", "*.pt", "*.pth") for path in folder.rglob(kind)
    ]
    if pickles:
        raise GeneratorConfigError(
            f"the weights in {folder} are pickles ({pickles[0].name}), which run code when they "
            "are read; where you trust them, write them once as safetensors: "
            "DiffusionPipeline.from_pretrained(FOLDER).save_pretrained(OTHER)",
            key=key,
        )


def _check_shards(index: Path, *, key: str) -> None:
    """Refuse an index of weights that would have files elsewhere read."""
    try:
        shards = {*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # loading will tell
    for shard in shards:
        if Path(str(shard)).is_absolute() or ".." in Path(str(shard)).parts:
            raise GeneratorConfigError(
                f"{index.name} names {shard}, which lies outside of its folder; take the model "
                "from where it was published",
                key=key,
            )


def local_folder(model: str) -> Path | None:
    """Return the folder of a local pipeline or of the one that ships; None for a hub id.

    What exists as a folder is local; of the rest, texts of the form owner/name are hub ids.
    """
    if model == "pond":
        return POND
    folder = Path(model).expanduser()
    return None if _HUB_ID.fullmatch(model) is not None and not folder.is_dir() else folder


def read_license(card: Path) -> str | None:
    """Return the licence in the front matter of a model card, None if it names none."""
    if not card.is_file():
        return None
    front = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8"), re.DOTALL)
    names = dict(
        re.findall(r"^(license|license_name):\s*(\S.*?)\s*$", front[1], re.M) if front else ()
    )
    name = names.get("license")
    name = names.get("license_name", name) if name == "other" else name
    return name.strip("\"'") if name else None


def with_licenses(own: str | None, beside: Mapping[str, str | None]) -> str | None:
    """Name a model's licence, and behind it those of what is loaded beside it, by their names."""
    if not beside:
        return own
    return ", ".join(
        [own or "unknown", *(f"{name} {its or 'unknown'}" for name, its in beside.items())]
    )


def files_in(folder: Path) -> list[Path]:
    """Return what a model's folder holds, at any depth, but for its card."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CARD)


def digest_files(folder: Path, files: Sequence[Path]) -> str:
    """Digest files of a model, so that other weights differ: "sha256:" and 16 digits.

    Names, sizes, and the first and last MiB of every file: whole weights of a large model would
    take longer to read than to generate with.

    Args:
        folder: What their names are relative to.
        files: Mostly below it.
    """
    mebibyte = 2**20
    content = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        name = Path(os.path.relpath(path, folder)).as_posix()
        content.update(f"{name}\0{size}\0".encode())
        with path.open("rb") as stream:
            content.update(stream.read(mebibyte))
            stream.seek(max(0, size - mebibyte))
            content.update(stream.read(mebibyte))
    return f"sha256:{content.hexdigest()[:16]}"


def part_class(library: str | None, name: str | None, *, key: str) -> type[Any]:
    """Return the class of a part, of diffusers or transformers.

    Raises:
        GeneratorConfigError: It is of another library, which an index could name to have its code
            run.
    """
    from diffusers import pipelines

    if library is None:
        raise GeneratorConfigError(
            "the pipeline has none, and names no class to load one by; leave it out", key=key
        )
    home: Any = None
    if library in ("diffusers", "transformers"):
        home = importlib.import_module(library)
    else:
        home = getattr(pipelines, library, None)
    found = getattr(home, name or "", None)
    if not isinstance(found, type) or not hasattr(found, "from_pretrained"):
        raise GeneratorConfigError(
            f"{library}.{name} is no class of diffusers or transformers; it cannot be loaded from "
            "elsewhere",
            key=key,
        )
    return found
