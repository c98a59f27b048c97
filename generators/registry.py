"""The registry: a config's `generator` section -> a generator.

The controller and the command line call it. `check_generator` finds what is wrong with a config in
milliseconds, before any model loads; nothing here imports torch or diffusers.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar, cast

from gapclose.generators.base import GenerationError, Generator, GeneratorConfigError, try_out
from gapclose.generators.recipe import Draw

KINDS: Final[dict[str, str]] = {
    "diffusers": "gapclose.generators.diffusion:DiffusersGenerator",
    "folder": "gapclose.generators.folder:FolderGenerator",
}
POND: Final = Path(__file__).parent / "pond" / "sd"
"""The pipeline that ships: what `model: pond` means."""

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_SECONDS: Final = 10.0

_T = TypeVar("_T")


def make_generator(spec: Mapping[str, Any]) -> Generator:
    """The generator of a config's section; models load at the first image, not here.

    Args:
        spec: `kind` (a key of `KINDS`, "pkg.mod:Class" or "/path/to/file.py:Class") and the
            arguments of its class.

    Raises:
        GeneratorConfigError: If the kind or an argument is unknown, missing or of no use.
    """
    kind, options = _split(spec)
    factory = _load(kind)
    try:
        inspect.signature(factory).bind(**options)
    except TypeError:
        raise _wrong_arguments(kind, factory, options) from None
    return _own(kind, lambda: factory(**options))


def check_generator(
    spec: Mapping[str, Any], *, schedulers: Sequence[str] = (), draw: Draw | None = None
) -> None:
    """Refuse a section that could never draw, before any model loads.

    It looks at the kind, the arguments and local folders, and asks the hub for a pipeline that is
    not in its cache. A generator of one's own may have methods `check()` and
    `check_schedulers(names)` for the same purpose.

    Args:
        spec: As for `make_generator`.
        schedulers: Names that draws will have.
        draw: What a generator of one's own is to draw one image of, to see what it returns.

    Raises:
        GeneratorConfigError: One line that names the culprit and the remedy.
    """
    generator = make_generator(spec)
    kind = str(spec["kind"])
    if (check := getattr(generator, "check", None)) is not None:
        _own(kind, check)
    if (check := getattr(generator, "check_schedulers", None)) is not None:
        _own(kind, lambda: check(schedulers))
    if draw is not None and kind not in KINDS:
        try_out(generator, draw)


def local_folder(model: str) -> Path | None:
    """The folder of a local pipeline or of the one that ships; None if `model` is a hub id.

    What exists as a folder is local; of the rest, texts of the form owner/name are hub ids.
    """
    if model == "pond":
        return POND
    folder = Path(model).expanduser()
    return None if _HUB_ID.fullmatch(model) is not None and not folder.is_dir() else folder


def find_model(model: str, revision: str | None = None) -> Path | str:
    """Where a diffusers pipeline is: its local folder, or its hub id if the hub has it.

    Raises:
        GeneratorConfigError: If there is no such folder or hub id, or the hub cannot be reached.
    """
    folder = local_folder(model)
    if folder is None:
        _ask_hub(model, revision)
        return model
    if (folder / "model_index.json").is_file():
        return folder
    if model == "pond":
        raise GeneratorConfigError(
            "generator.model: pond's weights are not in this installation; `make pond` in a "
            "clone of gapclose trains them"
        )
    if folder.is_dir():
        raise GeneratorConfigError(
            f"generator.model: {folder} holds no model_index.json; name the folder that "
            "save_pretrained of a diffusers pipeline wrote"
        )
    raise GeneratorConfigError(
        f"generator.model: {model!r} is neither a folder nor a hub id (owner/name) nor pond"
    )


def read_license(card: Path) -> str | None:
    """The licence in the front matter of a model card (README.md), None if it names none."""
    if not card.is_file():
        return None
    front = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8"), re.DOTALL)
    names = dict(
        re.findall(r"^(license|license_name):\s*(\S.*?)\s*$", front[1], re.M) if front else ()
    )
    name = names.get("license")
    name = names.get("license_name", name) if name == "other" else name
    return name.strip("\"'") if name else None


def digest_folder(folder: Path) -> str:
    """A digest of a pipeline's folder that changes when its weights do: "sha256:" and 16 digits.

    Names, sizes, and the first and last MiB of every file: whole weights of a large model would
    take longer to read than to draw with.
    """
    mebibyte = 2**20
    content = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "README.md"):
        size = path.stat().st_size
        content.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        with path.open("rb") as stream:
            content.update(stream.read(mebibyte))
            stream.seek(max(0, size - mebibyte))
            content.update(stream.read(mebibyte))
    return f"sha256:{content.hexdigest()[:16]}"


def _split(spec: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    kind = spec.get("kind")
    if not isinstance(kind, str):
        raise GeneratorConfigError(f"generator.kind: must be one of {', '.join(KINDS)}")
    if kind not in KINDS and ":" not in kind:
        near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.0)[0]
        raise GeneratorConfigError(
            f"generator.kind: unknown {kind!r}; did you mean {near!r}? "
            f"({', '.join(KINDS)}, pkg.mod:Class or ./file.py:Class)"
        )
    return kind, {key: value for key, value in spec.items() if key != "kind"}


def _load(kind: str) -> Callable[..., Generator]:
    module, _, name = KINDS.get(kind, kind).rpartition(":")
    try:
        return cast("Callable[..., Generator]", getattr(_import(module), name))
    except Exception as error:  # code of one's own may raise anything
        raise GeneratorConfigError(
            f"generator.kind: {kind!r} cannot be loaded: {type(error).__name__}: {error}"
            f"{_looked(module, error)}"
        ) from error


def _import(module: str) -> ModuleType:
    """A module by its name, or by its file: under a name that no other module, or text, has."""
    if not module.endswith(".py"):
        return importlib.import_module(module)
    if not Path(module).is_file():
        raise ModuleNotFoundError(f"there is no file {module}")
    content = module.encode() + Path(module).read_bytes()
    name = f"gapclose_code_{hashlib.sha256(content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, module)
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # dataclasses and pickles look a class's module up
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[name]
        raise
    return made


def _looked(module: str, error: Exception) -> str:
    """Where a module was looked for that was not found."""
    top = module.partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or module.endswith(".py"):
        return ""
    found = sys.modules.get(top)
    if found is not None and error.name != top:
        places = list(getattr(found, "__path__", ())) or [getattr(found, "__file__", None)]
        return f" ({top} is {places[0]}); rename yours, or write ./file.py:Class"
    return (
        f"; {top} is neither installed nor in the folder of the config file; put it there, set "
        "code_folder, or write ./file.py:Class"
    )


def _own(kind: str, call: Callable[[], _T]) -> _T:
    """What code of one's own gives; whatever it raises is one line."""
    try:
        return call()
    except (GeneratorConfigError, GenerationError):
        raise
    except Exception as error:
        if kind in KINDS:
            raise
        raise GeneratorConfigError(
            f"generator.kind: {kind!r} cannot be made: {type(error).__name__}: {error}"
        ) from error


def _wrong_arguments(
    kind: str, factory: Callable[..., Generator], options: Mapping[str, Any]
) -> GeneratorConfigError:
    parameters = inspect.signature(factory).parameters
    for key in options:
        if key not in parameters:
            near = difflib.get_close_matches(key, parameters, n=1, cutoff=0.0)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            return GeneratorConfigError(f"generator.{key}: unknown key for kind {kind}{hint}")
    needed = [k for k, p in parameters.items() if p.default is p.empty and k not in options]
    return GeneratorConfigError(f"generator.{needed[0]}: missing; kind {kind} needs it")


def _ask_hub(model: str, revision: str | None) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = "model_index.json"
    if isinstance(try_to_load_from_cache(model, name, revision=revision), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(model, name, revision=revision), timeout=_HUB_SECONDS)
    except GatedRepoError:
        remedy = "accept its terms on the hub and log in with `hf auth login`"
        raise GeneratorConfigError(f"generator.model: {model} is gated; {remedy}") from None
    except RevisionNotFoundError:
        raise GeneratorConfigError(
            f"generator.revision: the hub's {model} has no revision {revision!r}"
        ) from None
    except (RepositoryNotFoundError, HfHubHTTPError, OSError) as error:
        raise _unreachable(model, error) from None
    except Exception as error:
        # The hub's client lets its HTTP library's errors through, and which library that is has
        # changed between its versions.
        if not type(error).__module__.startswith(("httpx", "requests")):
            raise
        raise _unreachable(model, error) from None


def _unreachable(model: str, error: Exception) -> GeneratorConfigError:
    what = str(error).strip().splitlines()
    return GeneratorConfigError(
        f"generator.model: {model} is not in the hub's cache and cannot be fetched "
        f"({what[0] if what else type(error).__name__}); download it elsewhere and set "
        "generator.model to the local folder that holds its model_index.json"
    )
