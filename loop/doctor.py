"""Checks of this machine: what it has and lacks, one line each, with the remedy.

`gapclose doctor` prints them, and the set-up uses the one for mongod. They change nothing and
never fail: what is missing may not be needed.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gapclose.analysis.cache import cache_folder
from gapclose.analysis.families import LINES, ROLES, recommended
from gapclose.generators.cards import what_fits
from gapclose.generators.licenses import MODELS, terms_of
from gapclose.loop.run.environment import environment

__all__ = ["Check", "diagnose", "find_mongod"]

_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of one check; `remedy` is empty where all is well."""

    name: str
    ok: bool
    found: str
    remedy: str = ""

    def line(self) -> str:
        """Return `ok       GPU: none` or `missing  mongod: ...; remedy`."""
        head = f"{'ok' if self.ok else 'missing':8} {self.name}: {self.found}"
        return f"{head}; {self.remedy}" if self.remedy else head


def diagnose(*, runs: Path | None = None) -> Iterator[Check]:
    """Check everything that a run needs.

    Args:
        runs: where runs will be written (for the free space); default the current folder.
    """
    yield Check(
        name="python", ok=True, found=f"{platform.python_version()}, {os.cpu_count()} CPU cores"
    )
    versions = environment()["packages"]
    lacking = sorted(name for name, version in versions.items() if version is None)
    yield Check(
        name="packages",
        ok=not lacking,
        found=", ".join(f"{name} {version}" for name, version in versions.items() if version),
        remedy=f"not installed: {', '.join(lacking)}; run `make setup`" if lacking else "",
    )
    yield _gpu()
    yield from _weights()
    yield _encoders()
    yield _licences()
    yield _map()
    yield _mongod()
    yield _space("disk", runs or Path.cwd(), needed=5 * _GIB)
    yield _space("cache", cache_folder(), needed=1 * _GIB)


def find_mongod() -> Path | str | None:
    """Find the MongoDB that the App would use: the user's URI, or fiftyone's own."""
    uri = os.environ.get("FIFTYONE_DATABASE_URI")
    if uri:
        return uri
    # find_spec on a top-level package imports nothing of it; importing fiftyone takes 5 s.
    spec = importlib.util.find_spec("fiftyone")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        shipped = Path(folder) / "db" / "bin" / "mongod"
        if shipped.is_file() and os.access(shipped, os.X_OK):
            return shipped
    return None


def _gpu() -> Check:
    try:
        import torch
    except ImportError:
        return Check(name="GPU", ok=False, found="torch is missing", remedy="run `make setup`")
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Check(name="GPU", ok=True, found=_card(torch.cuda.get_device_name(0), memory, bf16))
    if torch.backends.mps.is_available():
        return Check(name="GPU", ok=True, found="Apple (mps)")
    return Check(
        name="GPU",
        ok=False,
        found="none",
        remedy="pond runs on the CPU; a real Stable Diffusion wants a GPU and torch built for it",
    )


def _card(name: str, memory: int, bf16: bool) -> str:
    computes = "bfloat16" if bf16 else "no bfloat16 of its own, so float16"
    fits = what_fits(memory, bf16=bf16)
    return f"{name}, {memory / _GIB:.0f} GiB, {computes}; models that fit {fits}"


def _weights() -> Iterator[Check]:
    for room, folder, sign in (
        ("generators", "pond/sd", "model_index.json"),
        ("analysis", "pond/clip", "open_clip_config.json"),
        ("analysis", "pond/judge", "config.json"),
    ):
        spec = importlib.util.find_spec(f"gapclose.{room}")
        places = list(spec.submodule_search_locations or []) if spec else []
        path = Path(places[0]) / folder if places else Path(folder)
        weights = list(path.rglob("*.safetensors"))
        ok = (path / sign).is_file() and bool(weights)
        size = sum(file.stat().st_size for file in weights) / 1e6
        yield Check(
            name=f"weights {folder}",
            ok=ok,
            found=f"{size:.1f} MB" if ok else "not there",
            remedy="" if ok else "install gapclose anew, or train them with `make pond`",
        )


def _encoders() -> Check:
    """Recommend encoders: it depends on the photos which are there, so none is missing."""
    advice = [
        f"to {role} {' or '.join(f'{its.example} ({its.licence})' for its in recommended(role))}"
        for role in ROLES
    ]
    barred = next(line for line in LINES if line.name == "DINOv3")
    return Check(
        name="encoders",
        ok=True,
        found=f"{', '.join(advice)}; never one family for both; {barred.name}: {barred.licence}",
    )


def _licences() -> Check:
    """Say what licences of generators say of training: none is missing."""
    known = [(models, terms) for models, name in MODELS if (terms := terms_of(name)) is not None]
    said = [f"{models}: {terms.said}" for models, terms in known if terms.training != "free"]
    free = [models for models, terms in known if terms.training == "free"]
    return Check(
        name="licences",
        ok=True,
        found=f"images may train whatever you like of {', '.join(free)}; {'; '.join(said)}",
    )


def _map() -> Check:
    """Check whether UMAP can be imported: numba compiles it then, and needs a cache folder."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("umap")
    except Exception as error:  # noqa: BLE001 - whatever it is, reports go without the map
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        remedy = "reports go without the map; " + (
            "set NUMBA_CACHE_DIR to a folder that can be written"
            if "cache" in why
            else "install umap-learn anew"
        )
        return Check(name="map", ok=False, found=f"umap cannot be loaded: {why}", remedy=remedy)
    return Check(name="map", ok=True, found="umap can be loaded")


def _mongod() -> Check:
    found = find_mongod()
    if found is None:
        return Check(
            name="mongod",
            ok=False,
            found="none; `gapclose app` needs it",
            remedy="run `make setup`, or point FIFTYONE_DATABASE_URI at a server",
        )
    # A URI may hold a password.
    shown = str(found) if isinstance(found, Path) else "FIFTYONE_DATABASE_URI is set"
    return Check(name="mongod", ok=True, found=shown)


def _space(name: str, folder: Path, *, needed: int) -> Check:
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    writable = os.access(there, os.W_OK)
    remedy = ""
    if not writable:
        remedy = "it cannot be written"
    elif free < needed:
        remedy = f"have {needed / _GIB:.0f} GiB free for an overnight run"
    if name == "cache" and remedy:
        remedy += "; or set GAPCLOSE_CACHE to another folder"
    return Check(
        name=name, ok=not remedy, found=f"{free / _GIB:.1f} GiB free at {folder}", remedy=remedy
    )
