"""The registry: a config's `generator` section -> a generator.

The controller and the command line call it. `check_generator` finds what is wrong with a config in
milliseconds, before any model loads; it imports neither torch nor diffusers itself.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar, cast

from gapclose.generators.base import (
    SETTINGS,
    Generator,
    check_parameters,
    takes_no_pictures,
    try_out,
)
from gapclose.generators.errors import GenerationError, GeneratorConfigError, said
from gapclose.generators.recipe import Draw

KINDS: Final[dict[str, str]] = {
    "diffusers": "gapclose.generators.diffusion:DiffusersGenerator",
    "folder": "gapclose.generators.folder:FolderGenerator",
    "command": "gapclose.generators.command:CommandGenerator",
    "onnx": "gapclose.generators.onnx:OnnxGenerator",
}
_UNTRIED: Final = frozenset({"diffusers", "folder"})
"""Kinds whose code and whose models are known: no first image tells of them."""
_TRIED_STEPS: Final = 4
_TRIED_GUIDANCE: Final = 2.0
_T = TypeVar("_T")


def make_generator(spec: Mapping[str, Any]) -> Generator:
    """Make the generator of a config's section; models load at the first image, not here.

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


def settings_of(spec: Mapping[str, Any]) -> frozenset[str]:
    """Return those of `SETTINGS` that a generator takes: all, unless it says which.

    Raises:
        GeneratorConfigError: As `make_generator`.
    """
    kind = str(spec["kind"])
    # Of one that ships, its class says so: whether it can be made is `check_generator`'s to say.
    found = _load(kind) if kind in KINDS else make_generator(spec)
    own = _own(kind, lambda: getattr(found, "settings", SETTINGS))
    if isinstance(own, property):  # it depends on the model
        generator = make_generator(spec)
        own = _own(kind, lambda: getattr(generator, "settings", SETTINGS))
    return frozenset(own)


def parameters_of(spec: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the parameters that a generator says it takes; None unless it says.

    Raises:
        GeneratorConfigError: As `make_generator`.
    """
    generator = make_generator(spec)
    known = _own(str(spec["kind"]), lambda: getattr(generator, "parameters", None))
    return None if known is None else frozenset(known)


def check_generator(
    spec: Mapping[str, Any],
    *,
    schedulers: Sequence[str] = (),
    draw: Draw | None = None,
    strength: bool = False,
    ip_adapter: bool = False,
    parameters: Sequence[str] = (),
    variants: Mapping[str, Draw] | None = None,
    other_prompt: Draw | None = None,
    classes: Sequence[str] = (),
    prompts: Iterable[str] = (),
) -> None:
    """Refuse a section that could never generate, before any model loads.

    It checks the kind, the arguments and local folders, and asks the hub for a pipeline that is
    not in its cache. A generator of one's own may have methods `check()`, `check_class(name)`,
    `check_prompts(prompts)`, `check_schedulers(names)` and `check_conditioning(strength=,
    ip_adapter=)` for the same purpose.

    Args:
        spec: As for `make_generator`.
        schedulers: Names that draws will have.
        draw: What a program, or a generator of one's own, is to generate one image of, to see
            what it returns.
        strength: Whether draws will start from source pictures.
        ip_adapter: Whether draws will be shown source pictures as image prompts.
        parameters: Names that draws will have. A generator's attribute `parameters` names those
            that it takes.
        variants: Draws that differ from `draw` in one parameter each, by its name.
        other_prompt: One that differs in its prompt, where there are several.
        classes: That draws will name.
        prompts: That draws will have; made one by one, as they are asked for.

    Raises:
        GeneratorConfigError: One line that names the culprit and the remedy.
    """
    generator = make_generator(spec)
    kind = str(spec["kind"])
    if (check := getattr(generator, "check", None)) is not None:
        _own(kind, check)
    if (check := getattr(generator, "check_schedulers", None)) is not None:
        _own(kind, lambda: check(schedulers))
    if (check_class := getattr(generator, "check_class", None)) is not None:
        for name in classes:
            _own(kind, partial(check_class, name))
    if (check_prompts := getattr(generator, "check_prompts", None)) is not None:
        _own(kind, lambda: check_prompts(prompts))
    if strength or ip_adapter:
        if not hasattr(generator, "generate_from"):
            raise takes_no_pictures("strength" if strength else "ip_adapter_scale")
        if (conditioning := getattr(generator, "check_conditioning", None)) is not None:
            # One of a person's own need not know of parameters.
            own = {"parameters": parameters} if kind in KINDS else {}
            asked = {"strength": strength, "ip_adapter": ip_adapter, **own}
            _own(kind, lambda: conditioning(**asked))
    _own(kind, lambda: check_parameters(generator, {*parameters, *(variants or {})}))
    if draw is not None:
        _try(kind, generator, draw, variants or {}, other_prompt)


def _try(
    kind: str,
    generator: Generator,
    draw: Draw,
    variants: Mapping[str, Draw],
    other_prompt: Draw | None,
) -> None:
    """Have first images generated, by a kind whose code is known where parameters are in doubt."""
    if kind not in _UNTRIED:
        _own(kind, lambda: try_out(generator, draw, variants, other_prompt))
    elif variants:  # some arguments of a call change nothing in some families
        few = {name: _quick(its) for name, its in variants.items()}
        _own(kind, lambda: try_out(generator, _quick(draw), few))


def _quick(draw: Draw) -> Draw:
    """Return a draw of a few steps, guided, beside which parameters are tried."""
    steps, guidance = draw.num_inference_steps, draw.guidance_scale
    return replace(
        draw,
        num_inference_steps=None if steps is None else min(steps, _TRIED_STEPS),
        guidance_scale=None if guidance is None else max(guidance, _TRIED_GUIDANCE),
    )


def _split(spec: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    kind = spec.get("kind")
    if not isinstance(kind, str):
        raise GeneratorConfigError(f"must be one of {', '.join(KINDS)}", key="generator.kind")
    if kind not in KINDS and ":" not in kind:
        near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.0)[0]
        raise GeneratorConfigError(
            f"unknown {kind!r}; did you mean {near!r}? "
            f"({', '.join(KINDS)}, pkg.mod:Class or ./file.py:Class)",
            key="generator.kind",
        )
    return kind, {key: value for key, value in spec.items() if key != "kind"}


def _load(kind: str) -> Callable[..., Generator]:
    module, _, name = KINDS.get(kind, kind).rpartition(":")
    try:
        found = getattr(_import(module), name)
        if callable(found):
            inspect.signature(found)  # some builtins have none
            return cast("Callable[..., Generator]", found)
    except (Exception, SystemExit) as error:  # code of one's own may raise anything
        raise GeneratorConfigError(
            f"{kind!r} cannot be loaded: {said(error)}{_searched(module, error)}",
            key="generator.kind",
        ) from error
    raise GeneratorConfigError(
        f"{kind!r} is of type {type(found).__name__}; name a class or a function",
        key="generator.kind",
    )


def _import(module: str) -> ModuleType:
    """Import a module by its name, or by its file under a name that nothing else has."""
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
    sys.modules[name] = made  # dataclasses find a class's module here
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[name]
        raise
    return made


def _searched(module: str, error: BaseException) -> str:
    """Say where a module that was not found was searched for."""
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
    """Call code of one's own; whatever it raises becomes one line."""
    try:
        return call()
    except (GeneratorConfigError, GenerationError):
        raise
    except (Exception, SystemExit) as error:
        if kind in KINDS:
            raise
        raise GeneratorConfigError(
            f"{kind!r} cannot be made: {said(error)}",
            key="generator.kind",
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
