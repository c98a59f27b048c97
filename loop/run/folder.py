"""The run folder: where each thing of a run lies.

One process at a time writes it, under RUN/lock; status, report, viewer and export only read it. It
refuses paths that leave the folder, and it imports nothing that a config names.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from gapclose.generators.images import Pixels, write_pngs
from gapclose.loop.config.schema import ConfigError, RunConfig, changed_keys, load_config
from gapclose.loop.run.environment import environment
from gapclose.loop.run.files import (
    REMEDIES,
    RunDamagedError,
    UnwritableError,
    append_line,
    cut_torn_line,
    kept,
    read_lines,
    remove,
    to_json,
    write_text,
)
from gapclose.loop.run.trust import origin, same_origin

__all__ = [
    "SCHEMA",
    "RunBusyError",
    "RunDir",
    "RunMismatchError",
    "appears",
    "unwritable",
    "write_images",
]

log = logging.getLogger(__name__)

SCHEMA: Final = 1


class RunBusyError(RuntimeError):
    """Another process is writing this run folder; wait for it or choose another folder."""

    exit_code: ClassVar[int] = 2


class RunMismatchError(ValueError):
    """The run folder was made by another config; the message names the keys that differ."""

    exit_code: ClassVar[int] = 2


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
        mark = origin(config)  # before the folder: its secret may have nowhere to lie
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            if self.config_path.is_file():
                self.check_config(config)
                if self.config() != config:
                    write_text(self.config_path, config.to_yaml())
            else:
                # The config comes last: a folder without one is not yet a run.
                made = {"schema": SCHEMA, **environment(), "origin": mark}
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
    def journal_path(self) -> Path:
        """RUN/journal.jsonl."""
        return self.path / "journal.jsonl"

    def check_version(self) -> None:
        """Refuse to resume what an earlier version tuned, which kept no journal.

        Raises:
            RunMismatchError: It did.
        """
        if self.holds_tuning and not self.journal_path.is_file():
            raise RunMismatchError(
                f"{self.path}: was tuned by an earlier version, which kept no journal; it can be "
                "looked at and exported, but not resumed: start a new run with --out"
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
        return same_origin(recorded, self.config())

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
            cut_torn_line(self.journal_path)
            cut_torn_line(self.path / "trials.jsonl")
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

    def append_line(self, name: str, row: Mapping[str, Any]) -> None:
        """Append a row to a file of lines.

        Raises:
            UnwritableError: It cannot be written.
        """
        append_line(self._inside(name), to_json(row).encode())

    def write_lines(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace a file of lines, unless it holds these rows already."""
        path, text = self._inside(name), "".join(f"{to_json(row)}\n" for row in rows)
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)

    def log_error(self, what: str, error: Exception) -> None:
        """Say in one line what failed; how it came about goes to RUN/errors.log.

        The log is for reading only: a run never ends because it cannot be written.
        """
        log.error("%s: %s", what, error)
        path = self.path / "errors.log"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{what}\n{traceback.format_exc().rstrip()}\n\n")
        except OSError as failed:
            log.warning("%s: cannot be written: %s", path, failed.strerror)

    def trials(self) -> list[dict[str, Any]]:
        """Every finished trial in the order it was told; a torn last line is left out."""
        return read_lines(self.path / "trials.jsonl")

    def write_samples(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Replaces samples.jsonl: one row per image that is shown to a person."""
        self.write_lines("samples.jsonl", samples)

    def samples(self) -> list[dict[str, Any]]:
        """The rows of samples.jsonl; empty before there are any."""
        return read_lines(self.path / "samples.jsonl")

    def write_json(self, name: str, value: Any) -> None:
        """Replaces RUN/name. NaN and infinities become null: JSON has no word for them."""
        write_text(self._inside(name), to_json(value, indent=1) + "\n")

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
        remove(self._inside(name))

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


def unwritable(path: Path | str, error: OSError, remedy: str) -> ConfigError | UnwritableError:
    """What to raise where nothing was written yet: the place is wrong, or it has no room."""
    if error.errno in REMEDIES:
        return UnwritableError(error.errno, error.strerror, str(path))
    return ConfigError(f"{path}: cannot be written: {error.strerror}; {remedy}")
