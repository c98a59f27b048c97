"""The run folder: where each thing of a run lies, written so that a crash loses nothing.

The controller writes it; status, report, viewer and export only read it. Files are replaced
whole or appended line by line with fsync; one writer at a time holds RUN/lock. It refuses
paths that leave the folder, and it imports nothing that a config names.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import hmac
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from gapclose.analysis.cache import cache_folder
from gapclose.generators.images import Pixels, write_pngs
from gapclose.loop.config.schema import ConfigError, RunConfig, changed_keys, load_config

__all__ = [
    "SCHEMA",
    "RunBusyError",
    "RunDamagedError",
    "RunDir",
    "RunMismatchError",
    "UnwritableError",
    "appears",
    "environment",
    "is_machines_fault",
    "kept",
    "plain",
    "unwritable",
    "write_bytes",
    "write_images",
    "write_text",
]

log = logging.getLogger(__name__)

SCHEMA: Final = 1

# What decides the pixels and the numbers of a run, besides Python itself.
_PACKAGES: Final = (
    "gapclose",
    "accelerate",
    "diffusers",
    "fiftyone",
    "numpy",
    "onnxruntime",
    "open_clip_torch",
    "optuna",
    "pillow",
    "scikit-learn",
    "scipy",
    "torch",
    "torchvision",
    "transformers",
    "umap-learn",
)


class RunBusyError(RuntimeError):
    """Another process is writing this run folder; wait for it or choose another folder."""

    exit_code: ClassVar[int] = 2


class RunMismatchError(ValueError):
    """The run folder was made by another config; the message names the keys that differ."""

    exit_code: ClassVar[int] = 2


class RunDamagedError(ValueError):
    """A file of the run folder cannot be read; the message names it."""

    exit_code: ClassVar[int] = 2


class UnwritableError(OSError):
    """A file of ours cannot be written: make room, then the same command goes on.

    It says nothing of a recipe, so no trial fails for it. Made as any OSError is.
    """

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        """One line with the file, the reason and the remedy."""
        remedy = _REMEDIES.get(self.errno or 0, "make it writable")
        said = f"{self.filename}: cannot be written: {self.strerror}"
        return f"{said}; {remedy}, then the same command goes on"


# Of what is no fault of the place that somebody chose.
_REMEDIES: Final = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EIO: "look at the disk",
}


def is_machines_fault(error: BaseException) -> bool:
    """Whether a full or failing disk is to blame, and no recipe and no generator."""
    return isinstance(error, OSError) and (
        isinstance(error, UnwritableError) or error.errno in _REMEDIES
    )


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    """Raises UnwritableError, naming `path`, where the system refuses what is written to it."""
    try:
        yield
    except UnwritableError:
        raise
    except OSError as error:
        raise UnwritableError(error.errno, error.strerror or str(error), str(path)) from error


def environment() -> dict[str, Any]:
    """Python, platform and package versions; no host, user or folder names."""
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "cpus": os.cpu_count(),
        "packages": versions,
    }


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces a file whole: a reader sees the old one or the new one, never a part.

    Raises:
        UnwritableError: The system does not let it be written; the old one is as it was.
    """
    with kept(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def _unfinished(name: str) -> bool:
    """Whether a folder that was killed while it became a run may hold such a file."""
    return name in ("lock", "environment.json") or (name[0] == "." and name.endswith(".tmp"))


class RunDir:
    """One run's folder on disk: what lies where in it is known here alone.

    Readers need no lock. Writers hold `lock()`, which dies with its process.
    """

    def __init__(self, path: Path | str) -> None:
        """Names the folder; touches nothing. Use `create` or `open`."""
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - keeps symbolic links
        self._new = False

    def __repr__(self) -> str:
        """Shows the folder."""
        return f"RunDir({str(self.path)!r})"

    # ------------------------------------------------------------------ making and opening

    @classmethod
    def create(cls, path: Path | str, config: RunConfig) -> RunDir:
        """Makes the folder, or joins the run that is there if the config agrees with it.

        A resumed run may be told new limits, device, batch size and storage; RUN/config.yaml
        then says the new ones.

        Raises:
            ConfigError: If the folder holds something else than a run, or cannot be written.
            RunMismatchError: If it was made by another config; nothing is changed.
            RunBusyError: If another process is writing it; nothing is changed.
        """
        run = cls(path)
        if run.path.exists() and not run.path.is_dir():
            raise ConfigError(f"{run.path}: is a file; name a folder with --out")
        run._new = not run.config_path.is_file()
        if run._new:
            if run.path.is_dir() and not all(_unfinished(p.name) for p in run.path.iterdir()):
                raise ConfigError(
                    f"{run.path}: holds other things than a run; name an empty or new folder "
                    "with --out"
                )
        else:
            run.check_config(config)
        try:
            run._start(config)
        except OSError as error:
            remedy = "name another folder with --out, or with GAPCLOSE_CACHE"
            if not run._new:
                remedy = "make it writable, then the same command goes on"
            raise unwritable(error.filename or run.path, error, remedy) from None
        return run

    def _start(self, config: RunConfig) -> None:
        origin = _origin(config)  # before the folder: its secret may have nowhere to lie
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            if self.config_path.is_file():
                self.check_config(config)
                if self.config() != config:
                    write_text(self.config_path, config.to_yaml())
            else:
                # The config comes last: a folder without one is not yet a run.
                made = {"schema": SCHEMA, **environment(), "origin": origin}
                self.write_json("environment.json", made)
                write_text(self.config_path, config.to_yaml())

    @classmethod
    def open(cls, path: Path | str) -> RunDir:
        """Opens an existing run.

        Raises:
            ConfigError: If there is none.
        """
        run = cls(path)
        if not run.config_path.is_file():
            what = "no such folder" if not run.path.exists() else "is no run (no config.yaml)"
            raise ConfigError(f"{run.path}: {what}; `gapclose tune` and `audit` make one")
        return run

    @property
    def config_path(self) -> Path:
        """RUN/config.yaml."""
        return self.path / "config.yaml"

    def config(self) -> RunConfig:
        """The config that the run was started (or last resumed) with."""
        return load_config(self.config_path)

    def check_config(self, config: RunConfig) -> None:
        """Raises RunMismatchError, keys named, if a run here cannot go on under `config`."""
        keys = changed_keys(self.config(), config)
        if keys:
            raise RunMismatchError(
                f"{self.path}: was made by another config: {', '.join(keys)} "
                f"{'differs' if len(keys) == 1 else 'differ'}; name another folder with --out"
            )

    @property
    def holds_tuning(self) -> bool:
        """Whether anything was tuned here; an audit would write over its results."""
        return (self.path / "trials.jsonl").is_file()

    @property
    def holds_images(self) -> bool:
        """Whether its generator has drawn anything yet."""
        return (self.path / "images").is_dir()

    def made_here(self) -> bool:
        """Whether this user's gapclose made the run, with the config it now has.

        A run folder from elsewhere may name code to import; only its owner is trusted to.
        """
        try:
            recorded = str(self.read_json("environment.json").get("origin", ""))
        except (FileNotFoundError, RunDamagedError):
            return False
        return hmac.compare_digest(recorded, _origin(self.config()))

    def check_trust(self, config: RunConfig, *, trust: bool) -> None:
        """Lets the code that a config names be found.

        Raises:
            ConfigError: It is named by a run from elsewhere, and is not to be trusted.
        """
        code = config.names_code()
        if code and not trust and self.config_path.is_file() and not self.made_here():
            raise ConfigError(
                f"{self.config_path}: was made elsewhere and names code to import "
                f"({', '.join(code)}); if you trust whoever made it, add --trust"
            )
        config.admit_code()

    def unmeasured(self) -> ConfigError:
        """What is wrong with a run that has no gap.json and nothing to make it of."""
        return ConfigError(
            f"{self.path}: nothing was measured yet (no gap.json); let `gapclose tune` go on, or "
            "look at `gapclose status`"
        )

    # ------------------------------------------------------------------------------- writing

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds RUN/lock; on entry cuts what a killed writer left of a line.

        Raises:
            RunBusyError: At once, if another process (or another lock() of this one) has it.
        """
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunBusyError(
                    f"{self.path}: another process is using this run; wait for it to end, "
                    "or name another folder with --out"
                ) from None
            _cut_torn_line(self.path / "trials.jsonl")
            yield
        finally:
            os.close(handle)  # releases the lock, too

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """`lock()`; a run that `create` made is taken away again if what it is of is refused.

        The folder would refuse the config that mends it. Once an image was drawn it stays.
        """
        with self.lock():
            _sweep(self.path)
            try:
                yield
            except ValueError:  # what the user can mend
                drawn = self.holds_tuning or self.holds_images
                if self._new and not drawn:
                    shutil.rmtree(self.path, ignore_errors=True)
                raise

    def append_trial(self, trial: Mapping[str, Any]) -> None:
        """Adds one line to trials.jsonl; when this returns, the line survives a power cut.

        Raises:
            UnwritableError: It cannot be written; the next `lock` cuts what there is of the line.
        """
        path = self.path / "trials.jsonl"
        line = _json(trial).encode() + b"\n"
        with kept(path):
            fresh = not path.exists()
            with path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if fresh:
                _sync_folder(self.path)

    def append_error(self, text: str) -> None:
        """Adds to errors.log how a trial or a confirmation failed, for whoever wrote the code.

        The log is for reading only: a run never ends because it cannot be written.
        """
        path = self.path / "errors.log"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{text.rstrip()}\n\n")
        except OSError as error:
            log.warning("%s: cannot be written: %s", path, error.strerror)

    def trials(self) -> list[dict[str, Any]]:
        """Every finished trial in the order it was told; a torn last line is left out."""
        return self._lines("trials.jsonl")

    def write_samples(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Replaces samples.jsonl: one row per image that is shown to a person."""
        text = "".join(f"{_json(sample)}\n" for sample in samples)
        write_text(self.path / "samples.jsonl", text)

    def samples(self) -> list[dict[str, Any]]:
        """The rows of samples.jsonl; empty before there are any."""
        return self._lines("samples.jsonl")

    def write_json(self, name: str, value: Any) -> None:
        """Replaces RUN/name. NaN and infinities become null: JSON has no word for them."""
        write_text(self._inside(name), _json(value, indent=1) + "\n")

    def read_json(self, name: str) -> Any:
        """Reads RUN/name.

        Raises:
            FileNotFoundError: If the run has not come that far.
            RunDamagedError: If it is not JSON.
        """
        path = self._inside(name)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunDamagedError(f"{path}: is damaged ({error}); remove it and resume") from None

    def remove(self, name: str) -> None:
        """Takes a file away that is not true any more, if it is there."""
        self._inside(name).unlink(missing_ok=True)

    def has(self, name: str) -> bool:
        """Whether RUN/name exists."""
        return self._inside(name).is_file()

    # -------------------------------------------------------------------------------- paths

    def image_path(self, cls: str, draw_fingerprint: str, seed: int) -> Path:
        """RUN/images/<class>/<draw fingerprint>/<seed>.png, before the camera.

        Raises:
            ValueError: If a part would leave its folder.
        """
        return self._image(cls, draw_fingerprint, seed)

    def confirm_path(
        self, cls: str, part: int, stage: Literal["baseline", "tuned"], seed: int
    ) -> Path:
        """RUN/images/<class>/confirm-<part>/<stage>/<seed>.png, after the camera."""
        return self._image(cls, f"confirm-{int(part)}", stage, seed)

    def embeddings_path(self, name: str) -> Path:
        """RUN/embeddings/<name>.safetensors."""
        return self._inside(f"embeddings/{_part(name)}.safetensors")

    @property
    def study_path(self) -> Path:
        """RUN/study.db."""
        return self.path / "study.db"

    @property
    def real_path(self) -> Path:
        """RUN/real, where `real: {kind: pond}` is rendered."""
        return self.path / "real"

    def relative(self, path: Path) -> str:
        """`path` as rows of samples.jsonl name it: relative inside the run, else absolute."""
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - keeps symbolic links
        if absolute.is_relative_to(self.path):
            return absolute.relative_to(self.path).as_posix()
        return str(absolute)

    def resolve(self, path: str) -> Path:
        """The file that a row of samples.jsonl names; the inverse of `relative`.

        Raises:
            ValueError: If a relative path would leave the run.
        """
        return Path(path) if Path(path).is_absolute() else self._inside(path)

    def _image(self, cls: str, *parts: str | int) -> Path:
        *folders, seed = parts
        names = [_part(cls), *(_part(str(folder)) for folder in folders)]
        return self.path.joinpath("images", *names, f"{int(seed)}.png")

    def _inside(self, name: str) -> Path:
        parts = Path(name).parts
        if not parts or Path(name).is_absolute() or ".." in parts or "\0" in name:
            raise ValueError(f"{name!r} is no path inside a run folder")
        return self.path / name

    def _lines(self, name: str) -> list[dict[str, Any]]:
        path = self.path / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return []
        rows: list[dict[str, Any]] = []
        # A line counts once its newline is there; what follows the last one is torn.
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError):
                row = None
            if not isinstance(row, dict):
                raise RunDamagedError(
                    f"{path}, line {number}: is damaged; restore the file from a copy, "
                    "or start anew with --out"
                )
            rows.append(row)
        return rows


def appears(path: Path) -> bool:
    """Whether a run is there; False while it is only being made, or nobody has begun.

    Raises:
        ConfigError: Something else lies in its place.
    """
    run = RunDir(path)
    made = run.config_path.is_file()
    making = run.path.is_dir() and all(_unfinished(p.name) for p in run.path.iterdir())
    if run.path.exists() and not (made or making):
        RunDir.open(path)
    return made


def write_images(run: RunDir, images: Mapping[Path, Pixels], *, source_type: str) -> None:
    """Writes images that a run's generator has drawn, each whole or not at all.

    Raises:
        UnwritableError: The system does not let them be written.
    """
    with kept(run.path / "images"):
        write_pngs(images, source_type=source_type)


def _sweep(run: Path) -> None:
    """Removes the halves of files that a killed writer left."""
    halves = [
        *run.glob(".*.tmp"),
        *(run / "embeddings").glob(".*.tmp"),
        *(run / "images").rglob(".*.part"),
    ]
    for half in halves:
        half.unlink(missing_ok=True)


def _part(name: str) -> str:
    """One folder name: any text but one that would walk elsewhere or hide."""
    if not name or name in {".", ".."} or re.search(r"[/\\\0]", name):
        raise ValueError(f"{name!r} cannot name a folder of a run")
    return name


def _cut_torn_line(path: Path) -> None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())


def _json(value: Any, *, indent: int | None = None) -> str:
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def plain(value: Any) -> Any:
    """What JSON can say: numpy scalars and arrays become lists, paths text, non-finite null."""
    if isinstance(value, Mapping):
        return {str(key): plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(below) for below in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def unwritable(path: Path | str, error: OSError, remedy: str) -> ConfigError | UnwritableError:
    """What to raise where nothing was written yet: the place is wrong, or it has no room."""
    if error.errno in _REMEDIES:
        return UnwritableError(error.errno, error.strerror, str(path))
    return ConfigError(f"{path}: cannot be written: {error.strerror}; {remedy}")


def _origin(config: RunConfig) -> str:
    """A mark that only this user can make, bound to what the config says.

    The secret never leaves the user's own folders, so a run folder from elsewhere cannot
    carry a valid mark, nor can one's own run be given back with other code in its config.
    """
    folder = cache_folder()
    secret = folder / "origin.key"
    try:
        key = secret.read_bytes()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(secret, secrets.token_bytes(32))
        secret.chmod(0o600)
        key = secret.read_bytes()
    return hmac.new(key, config.fingerprint().encode(), hashlib.sha256).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
