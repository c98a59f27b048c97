"""Worlds to attack: photos, finished and interrupted runs, and the canary; made once a session."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import yaml
from PIL import Image, PngImagePlugin
from watched import CONFIG, MARK, Canary

from gapclose.generators.pond.renderer import write_real

__all__ = ["CLASSES", "EXPORTED", "Base", "World", "config_of", "copied"]

HERE: Final = Path(__file__).resolve().parent
GOLDEN: Final = HERE.parents[1] / "golden"
CLASSES: Final = ("frog", "ship")
EXPORTED: Final = (12, 120)
"""Images per class of an export: of what confirmed alone, and new ones as well."""
PHOTOS: Final = 230


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A run folder to damage.

    Attributes:
        name: For the table.
        run: Its folder, never written again.
        cache: The cache of who made it.
        config: What it was made by; None of a run of an earlier version.
        confirmed: By images per class, (recipe, seed, pixels) of what is exported as confirmed.
        mixtures: Of its YAML, by class.
    """

    name: str
    run: Path
    cache: Path
    config: Path | None = None
    confirmed: dict[int, frozenset[tuple[str, int, str]]] = field(default_factory=dict)
    mixtures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that cases are made of, and where each gets its folder."""

    root: Path
    photos: Path
    bases: tuple[Base, ...]
    other: Base
    canary: Canary

    @classmethod
    def make(cls, root: Path) -> World:
        """Make it; takes a minute."""
        photos, cache = root / "photos", root / "cache"
        write_real(photos, per_class=PHOTOS, classes=CLASSES)
        (photos / "scenes.jsonl").unlink()
        own = {"GAPCLOSE_CACHE": str(cache), "XDG_CONFIG_HOME": str(cache / CONFIG)}
        with patch.dict(os.environ, own):
            judged = _tuned(root / "judged", photos, cache, seed=0)
            other = _tuned(root / "other", photos, cache, seed=9)
            halfway = _tuned(root / "halfway", photos, cache, seed=0, calls=5)
            stripped = _stripped(root / "stripped", judged)
            golden = [_golden(root, name, cache) for name in ("with", "without")]
            bases = [_exported(base) for base in (judged, stripped, *golden)]
        # What no case of YAML or folders needs is what it must not be able to read.
        return cls(
            root=root,
            photos=photos,
            bases=(bases[0], halfway, *bases[1:]),
            other=_exported(other),
            canary=Canary(_canary(root / "canary", photos)),
        )

    def digest(self) -> str:
        """What the bases hold: no case may have changed them."""
        total = hashlib.sha256()
        for base in (*self.bases, self.other):
            for path in sorted(base.run.rglob("*")):
                if path.is_file():
                    total.update(path.read_bytes())
        return total.hexdigest()


def config_of(photos: Path, **changes: Any) -> dict[str, Any]:
    """A config of the cheapest run that can be confirmed."""
    data: dict[str, Any] = {
        "real": {"path": str(photos)},
        "classes": list(CLASSES),
        "generator": {"kind": "drawn:Drawn"},
        "code_folder": str(HERE),
        "embedder": "pond",
        "space": {"prompt": "a photo of a {class}", "guidance_scale": [1.0, 4.0]},
        "baseline": {"guidance_scale": 3.0},
        "tune": {"budget": None, "trials": 2, "images_per_trial": 6, "seed": 0},
        "confirm": {"images": 100},
    }
    return data | changes


def _tuned(folder: Path, photos: Path, cache: Path, *, seed: int, calls: int = 0) -> Base:
    folder.mkdir()
    tune = {"budget": None, "trials": 2, "images_per_trial": 6, "seed": seed}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(config_of(photos, tune=tune)), encoding="utf-8")
    code = _command("tune", config, "--out", folder / "run", calls=calls)
    assert code == (130 if calls else 0), code
    return Base(name=folder.name, run=folder / "run", cache=cache, config=config)


def _stripped(folder: Path, judged: Base) -> Base:
    """A run such as versions before the journal left: its projections are all there is."""
    folder.mkdir()
    shutil.copytree(judged.run, folder / "run")
    (folder / "run/journal.jsonl").unlink()
    return Base(name="stripped", run=folder / "run", cache=judged.cache, config=judged.config)


def _golden(root: Path, which: str, cache: Path) -> Base:
    folder = root / f"golden-{which}"
    with zipfile.ZipFile(GOLDEN / f"run-{which}-journal.zip") as packed:
        packed.extractall(folder / "run")
    return Base(name=folder.name, run=folder / "run", cache=cache)


def _exported(base: Base) -> Base:
    """What an intact run is exported as."""
    for n in EXPORTED:
        if base.name.startswith("golden") and n != EXPORTED[0]:
            continue  # its generator takes minutes
        out = base.run.parent / f"out-{n}"
        code = _command("export", base.run, out, "--per-class", n, "--trust")
        assert code == 0, (base.name, code)
        keys = set()
        for line in (out / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            with Image.open(out / row["file_name"]) as image:
                pixels = hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
            if row["confirmed"]:
                keys.add((row["recipe_fingerprint"], row["seed"], pixels))
        base.confirmed[n] = frozenset(keys)
        shutil.rmtree(out)
    out = base.run.parent / "out.yaml"
    assert _command("export", base.run, out) == 0
    base.mixtures.update(yaml.safe_load(out.read_text(encoding="utf-8"))["classes"])
    return base


def _command(*words: object, calls: int = 0) -> int:
    """The command line in a fork: this process must stay free of threads."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    from gapclose.loop.cli import app

    code = 1
    said = io.StringIO()
    try:
        os.environ["DRAWN_CALLS"] = str(calls)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            app([*map(str, words)], prog_name="gapclose")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        if code not in (0, 130):
            sys.__stderr__.write(said.getvalue()[-3000:])
            sys.__stderr__.flush()
        os._exit(code)


def _canary(folder: Path, photos: Path) -> Path:
    """Secrets that look like what commands read: texts, pictures, code, a run's files, a pipe."""
    for name in ("photos/frog", "code", "empty"):
        (folder / name).mkdir(parents=True)
    info = PngImagePlugin.PngInfo()
    info.add_text("secret", MARK)
    for number, path in enumerate(sorted((photos / "frog").iterdir())[:3]):
        with Image.open(path) as image:
            image.save(folder / f"photos/frog/{number}.png", pnginfo=info)
    (folder / "secret.txt").write_text(f"{MARK}\n", encoding="utf-8")
    (folder / "secret.json").write_text(json.dumps({"schema": 1, "classes": [MARK], "x": MARK}))
    (folder / "secret.jsonl").write_text(json.dumps({"kind": MARK, "class": MARK}) + "\n")
    (folder / "torn.jsonl").write_text(json.dumps({"kind": MARK}) + "\nno end of line")
    (folder / "secret.yaml").write_text(f"real: {{path: {MARK}}}\n", encoding="utf-8")
    (folder / "secret.db").write_bytes(b"")
    evil = f"from pathlib import Path\nPath({str(folder / 'pwned')!r}).write_text('x')\n"
    evil += "class Evil:\n    id = 'evil'\n    def generate(self, draw, seeds): ...\n"
    (folder / "code/canary_code.py").write_text(evil, encoding="utf-8")
    os.mkfifo(folder / "pipe")
    return folder


def copied(source: Path, target: Path, *, links: bool = True) -> Path:
    """A copy whose images are hard links: whoever damages one replaces it."""

    def copy(one: str, two: str) -> None:
        if links and one.endswith((".png", ".safetensors")):
            os.link(one, two)
        else:
            shutil.copy2(one, two)

    shutil.copytree(source, target, copy_function=copy)
    return target
