"""Embedders by name: what one is, which there are, and what their results depend on.

Audits, the controller and the cache call it. Checking a name or asking its identity loads no
model and imports no network library; pickled weights and code from a hub are refused.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis import weights
from gapclose.analysis.checked import checked, try_out
from gapclose.analysis.errors import EmbedderError, said
from gapclose.analysis.own_code import import_own

__all__ = [
    "EMBEDDERS",
    "SHIPPED",
    "Embedder",
    "TextEmbedder",
    "check_embedder",
    "check_embedders",
    "finite_rows",
    "identity",
    "is_code",
    "make_embedder",
    "make_embedders",
    "unit_rows",
]

log = logging.getLogger(__name__)

_HERE: Final = Path(__file__).parent
SHIPPED: Final = {
    "pond": f"open_clip:local-dir:{_HERE / 'pond' / 'clip'}",
    "pond-judge": f"transformers:{_HERE / 'pond' / 'judge'}",
}
# kind -> factory, called as factory(name, target, device=device)
EMBEDDERS: Final = {
    "open_clip": "gapclose.analysis.clip:OpenClipEmbedder",
    "onnx": "gapclose.analysis.onnx:OnnxEmbedder",
    "transformers": "gapclose.analysis.vision:TransformersEmbedder",
}
# Raised by one when a wrapper's preprocessing or pooling changes, so that no old row is reused.
_TRANSFORM: Final = {"open_clip": 1, "onnx": 1, "transformers": 1}
_PACKAGE: Final = {"open_clip": "open_clip_torch", "transformers": "transformers"}
_CODE: Final = re.compile(r"(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|.+\.py):[A-Za-z_]\w*")
_FORMS: Final = (
    "pond, pond-judge, open_clip:NAME/TAG, open_clip:local-dir:PATH, onnx:PATH, "
    "transformers:ID-or-PATH"
)


@runtime_checkable
class Embedder(Protocol):
    """What turns images into points whose distances mean something.

    Attributes:
        id: The name it was made from.
        width: Length of a row.
    """

    id: str
    width: int

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed any number of (h, w, 3) images, also of different sizes.

        Returns:
            (n, width), rows of length 1; a row does not depend on the other images.
        """
        ...


@runtime_checkable
class TextEmbedder(Embedder, Protocol):
    """An embedder that puts words into the same space."""

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: (n, width), rows of length 1."""
        ...


def make_embedder(name: str, *, device: str = "auto") -> Embedder:
    """Load an embedder; whoever embeds by it, its rows are checked.

    Args:
        name: A key of `EMBEDDERS` and what it asks for (`open_clip:NAME/TAG`, `onnx:PATH` ...), or
            `pkg.mod:Class` or `/path/to/file.py:Class` of your own, called with `device`.
        device: auto (CUDA if there is one), cpu, cuda, cuda:1, mps.

    Raises:
        EmbedderError: If `check_embedder` refuses the name or the weights do not fit the model; or
            if code of your own breaks the contract at the first two images.
    """
    kind, target = _parse(name)
    _sources(name)
    if name.startswith("gapclose."):  # ours: features, which no model is loaded for
        return cast(Embedder, _own(name, device))
    log.info("loading the encoder %s", name)
    if kind == "code":
        return try_out(_own(name, device), name=name)
    module, _, attribute = EMBEDDERS[kind].partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    return checked(factory(name, target, device=device))


def make_embedders(
    *names: str, loaded: dict[str, Embedder], device: str = "auto"
) -> dict[str, Embedder]:
    """Return embedders by name, loading those that are not in `loaded`, which they join.

    Raises:
        EmbedderError: As `make_embedder`.
    """
    for name in names:
        if name not in loaded:
            loaded[name] = make_embedder(name, device=device)
    return {name: loaded[name] for name in names}


def check_embedders(*names: str | None) -> None:
    """Run `check_embedder` on each name that is given."""
    for name in names:
        if name is not None:
            check_embedder(name)


def check_embedder(name: str) -> None:
    """Refuse, before anything is loaded, a name that cannot become an embedder.

    Raises:
        EmbedderError: In one line: unknown name (the nearest is named), missing file or folder,
            pickled weights, or a hub model that is neither cached nor reachable.
    """
    _sources(name)


def identity(name: str) -> str:
    """Name what an embedder's rows depend on, without loading it; the cache is keyed by it.

    Kind, transform version, the wrapping package's version, and sha256 of the weights and the
    configuration, preprocessing included; not the path they lie at. Not the device: rows differ
    by rounding only.

    Raises:
        EmbedderError: As `check_embedder`.
    """
    kind, target = _parse(name)
    if kind == "code":
        shown = target if not Path(target.rpartition(":")[0]).is_absolute() else "file"
        return f"code:{shown}:{weights.fingerprint(_sources(name))}"
    package = _PACKAGE.get(kind)
    release = f"{package}-{version(package)}" if package else "graph"
    # A tag names its preprocessing in open_clip's table, which the package's version covers.
    tag = "" if target.startswith("local-dir:") or kind != "open_clip" else f"{target}:"
    return f"{kind}:{tag}transform{_TRANSFORM[kind]}:{release}:" + weights.fingerprint(
        _sources(name)
    )


def is_code(name: str) -> bool:
    """Tell whether a name asks for code of the user's own, which needs trust.

    It is written `pkg.mod:Class` or `file.py:Class`.
    """
    return _CODE.fullmatch(name) is not None and name.partition(":")[0] not in EMBEDDERS


def unit_rows(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale rows to length 1; a row of zeros stays.

    A row with a number that is not finite becomes NaN as a whole, so that whoever asked can name
    the image: `analysis.cache` counts it, the loop takes its image for invalid.
    """
    rows = np.array(rows, dtype=np.float32)
    rows[~np.isfinite(rows).all(axis=1)] = np.nan
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, 1e-12), dtype=np.float32)


def finite_rows(rows: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which rows are finite throughout: the images of the others are not scored."""
    return np.atleast_1d(np.isfinite(rows).all(axis=1))


def _parse(name: str) -> tuple[str, str]:
    """Split a name into (kind, target); kind is a key of EMBEDDERS or `code`."""
    full = SHIPPED.get(name, name)
    kind, colon, target = full.partition(":")
    if is_code(full):
        return "code", full
    if kind in EMBEDDERS and colon and target:
        return kind, target
    if kind in EMBEDDERS:
        example = next(form for form in _FORMS.split(", ") if form.startswith(kind))
        raise EmbedderError(f"names no model; write {example}", name=name)
    path = Path(name).expanduser()
    if path.suffix == ".onnx":
        raise EmbedderError(f"unknown; did you mean 'onnx:{name}'?", name=name)
    if (path / "open_clip_config.json").is_file():
        near = f"open_clip:local-dir:{name}"
    elif (path / "config.json").is_file():
        near = f"transformers:{name}"
    else:
        (match,) = get_close_matches(kind, [*SHIPPED, *EMBEDDERS], n=1, cutoff=0.0)
        near = f"{match}:{target}" if match in EMBEDDERS and colon else match
    raise EmbedderError(f"unknown; did you mean {near!r}? Known: {_FORMS}", name=name)


def _sources(name: str) -> tuple[weights.Source, ...]:
    kind, target = _parse(name)
    if name in SHIPPED and not Path(target.removeprefix("local-dir:")).is_dir():
        raise EmbedderError(
            "its shipped weights are missing; install gapclose again, or "
            "train them with `make pond`",
            name=name,
        )
    if kind == "code":
        return (_code_source(target),)
    if kind == "onnx":
        return weights.onnx_sources(name, Path(target).expanduser())
    if kind == "transformers":
        return weights.transformers_sources(name, target)
    if target.startswith("local-dir:"):
        folder = Path(target.removeprefix("local-dir:")).expanduser()
        return weights.open_clip_folder_sources(name, folder)
    return weights.open_clip_tag_sources(name, target)


def _own(name: str, device: str) -> Any:
    """Make an embedder of the user's own; whatever its code raises becomes one line."""
    module, _, attribute = name.rpartition(":")
    try:
        factory = getattr(import_own(module), attribute, None)
        if callable(factory):
            return factory(device=device)
    except EmbedderError:
        raise
    except (Exception, SystemExit) as error:
        raise EmbedderError(f"cannot be loaded: {said(error)}", name=name) from error
    raise EmbedderError(f"module {module} has no class {attribute}", name=name)


def _code_source(target: str) -> weights.Source:
    module = target.rpartition(":")[0]
    if module.endswith(".py"):  # known by its content and the class, not by its place
        if not Path(module).is_file():
            raise EmbedderError(f"there is no file {module}", name=target)
        named = f"{Path(module).name}:{target.rpartition(':')[2]}"
        return weights.Source(path=Path(module), etag=hashlib.sha256(named.encode()).hexdigest())
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    except (Exception, SystemExit) as error:  # a package of one's own may raise anything
        raise EmbedderError(f"cannot be loaded: {said(error)}", name=target) from error
    if spec is None or not spec.origin:
        raise EmbedderError(
            f"no module {module}, neither installed nor in the folder of the "
            "config file; put it there, set code_folder, or write ./file.py:Class",
            name=target,
        )
    release = "none"
    with suppress(PackageNotFoundError):  # a module beside the config is of no distribution
        release = version(module.partition(".")[0])
    return weights.Source(
        path=Path(spec.origin), etag=hashlib.sha256(f"{target}:{release}".encode()).hexdigest()
    )
