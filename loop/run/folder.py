"""The run folder: where each thing of a run lies, and how its files are read and written.

One process at a time writes it, under `lock`; status, report, viewer and export only read it. A
run folder may come from elsewhere: paths that leave it are refused, and so are links in it, which
lead wherever they like, and whatever is no regular file. It imports nothing that a config names.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gapclose.loop.config.reading import load_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.errors import ConfigError, RunDamagedError
from gapclose.loop.run.files import (
    UNFIT,
    append_line,
    damaged,
    own_file,
    parse_json,
    read_arrays,
    read_bytes,
    read_lines,
    remove,
    to_json,
    write_bytes,
    write_text,
)
from gapclose.loop.run.shapes import Sample, TrialRow, mismatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RunDir"]

log = logging.getLogger(__name__)


class RunDir:
    """One run's folder on disk: what lies where in it is known here alone."""

    def __init__(self, path: Path | str) -> None:
        """Name the folder and touch nothing; `joining` makes one, `open` finds it."""
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - keeps symbolic links

    def __repr__(self) -> str:
        """Show the folder."""
        return f"RunDir({str(self.path)!r})"

    @classmethod
    def open(cls, path: Path | str) -> RunDir:
        """Open an existing run.

        Raises:
            ConfigError: If there is none.
        """
        run = cls(path)
        if not run.config_path.is_file():
            what = "no such folder" if not run.path.exists() else "is no run (no config.yaml)"
            said = f"{what}; `gapclose tune` and `audit` make one"
            raise ConfigError(said, where=run.path)
        return run

    # ----------------------------------------------------------------------- what a run holds

    def config(self) -> RunConfig:
        """Read the config that the run was started (or last resumed) with."""
        return load_config(self.config_path)

    @property
    def holds_tuning(self) -> bool:
        """Whether anything was tuned here; an audit would write over its results."""
        return self.has("journal.jsonl") or self.has("trials.jsonl")

    @property
    def holds_images(self) -> bool:
        """Return whether it holds generated images."""
        return self.folder("images").is_dir()

    def has(self, name: str) -> bool:
        """Return whether RUN/name exists.

        Raises:
            RunDamagedError: As `file`.
        """
        return self.file(name).exists()

    def trials(self) -> list[dict[str, Any]]:
        """Read every finished trial in the order of its line; a torn last line is left out.

        Raises:
            RunDamagedError: A line is none.
        """
        return _rows(self.file("trials.jsonl"), TrialRow)

    def samples(self) -> list[dict[str, Any]]:
        """Read the rows of samples.jsonl; there are none before it is written.

        Raises:
            RunDamagedError: A line is none.
        """
        return _rows(self.file("samples.jsonl"), Sample)

    def read_json(self, name: str, shape: type[Any] | None = None) -> Any:
        """Read RUN/name.

        Args:
            name: The file.
            shape: Of `shapes`, that it must have.

        Raises:
            FileNotFoundError: If the run has not come that far.
            RunDamagedError: If it is not JSON, or JSON that cannot be read here, of another
                shape, or as `file`.
        """
        path = self.file(name)
        try:
            value = parse_json(read_bytes(path))
        except RunDamagedError:
            raise
        except (ValueError, RecursionError) as error:  # too many digits, nested too deeply
            raise damaged(path, str(error)) from None
        if shape is not None and (problem := mismatch(shape, value)):
            raise damaged(path, problem)
        return value

    def read_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Read the arrays of RUN/name, a safetensors file.

        Raises:
            FileNotFoundError: If the run has not come that far.
            RunDamagedError: If it is no such file, or as `file`.
        """
        return read_arrays(self.file(name))

    # ------------------------------------------------------------------------------- writing

    def write_json(self, name: str, value: Any, *, durable: bool = True) -> None:
        """Replace RUN/name. NaN and infinities become null: JSON has no word for them.

        Args:
            name: The file.
            value: What it holds from now on.
            durable: Wait until it survives a power cut. What comes back by itself need not.

        Raises:
            UnwritableError: It cannot be written.
        """
        write_text(_place(self.path, name), to_json(value, indent=1) + "\n", durable=durable)

    def append_line(self, name: str, row: Mapping[str, Any], *, durable: bool = True) -> None:
        """Append a row to a file of lines; arguments as in `write_json`.

        Raises:
            UnwritableError: It cannot be written.
        """
        append_line(self.file(name), to_json(row).encode(), durable=durable)

    def write_lines(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace a file of lines, unless it holds these rows already."""
        path, text = _place(self.path, name), "".join(f"{to_json(row)}\n" for row in rows)
        try:
            if read_bytes(path) == text.encode():
                return
        except (FileNotFoundError, RunDamagedError):
            pass
        write_text(path, text)

    def write_samples(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Replace samples.jsonl: one row per image that is shown to a person."""
        self.write_lines("samples.jsonl", samples)

    def write_embeddings(self, name: str, data: bytes) -> None:
        """Replace RUN/embeddings/<name>.safetensors, also where a link lies in its place.

        Raises:
            UnwritableError: It cannot be written.
            RunDamagedError: RUN/embeddings is a link or no folder.
        """
        write_bytes(_place(self.path, _embeddings(name)), data)

    def remove(self, name: str) -> None:
        """Remove a file that is not true any more, if it is there."""
        remove(_place(self.path, name))

    def log_error(self, what: str) -> None:
        """Append the traceback of the exception under way to RUN/errors.log.

        The event of what failed says it in a line. The log is for reading only: a run never ends
        because it cannot be written.
        """
        path = self.path / "errors.log"
        try:
            with open(
                path, "a", encoding="utf-8", errors="backslashreplace", opener=own_file
            ) as file:
                file.write(f"{what}\n{traceback.format_exc().rstrip()}\n\n")
        except RunDamagedError as failed:
            log.warning("%s", failed)
        except OSError as failed:
            log.warning("%s: cannot be written: %s", path, failed.strerror)

    # -------------------------------------------------------------------------------- paths

    def file(self, name: str) -> Path:
        """Return RUN/name: a file, or nothing yet.

        Raises:
            RunDamagedError: It, or a folder that it lies in, is a link or not what it should be.
            ValueError: It would leave the run.
        """
        path = _place(self.path, name)
        if (mode := _mode(path)) is not None and not stat.S_ISREG(mode):
            raise RunDamagedError(path, UNFIT)
        return path

    def folder(self, name: str) -> Path:
        """Return RUN/name: a folder, or nothing yet.

        Raises:
            RunDamagedError: It, or a folder that it lies in, is a link or no folder.
            ValueError: It would leave the run.
        """
        return _place(self.path, f"{name}/_").parent

    @property
    def config_path(self) -> Path:
        """RUN/config.yaml."""
        return self.file("config.yaml")

    @property
    def journal_path(self) -> Path:
        """RUN/journal.jsonl."""
        return self.file("journal.jsonl")

    @property
    def trials_path(self) -> Path:
        """RUN/trials.jsonl."""
        return self.file("trials.jsonl")

    @property
    def study_path(self) -> Path:
        """RUN/study.db, whatever lies there: what is no file is set aside by who opens it."""
        return _place(self.path, "study.db")

    @property
    def real_path(self) -> Path:
        """RUN/real, where `real: {kind: pond}` is rendered."""
        return self.folder("real")

    def image_path(self, cls: str, draw_fingerprint: str, seed: int) -> Path:
        """RUN/images/<class>/<draw fingerprint>/<seed>.png, before the camera.

        Raises:
            ValueError: If a part would leave its folder.
        """
        return _place(self.path, _image(cls, draw_fingerprint, seed))

    def confirm_path(
        self, cls: str, part: int, stage: Literal["baseline", "tuned"], seed: int
    ) -> Path:
        """RUN/images/<class>/confirm-<part>/<stage>/<seed>.png, after the camera."""
        return _place(self.path, _image(cls, f"confirm-{int(part)}", stage, seed))

    def embeddings_path(self, name: str) -> Path:
        """RUN/embeddings/<name>.safetensors."""
        return self.file(_embeddings(name))

    def relative(self, path: Path) -> str:
        """Name `path` as rows of samples.jsonl do: relative inside the run, else absolute."""
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - keeps symbolic links
        if absolute.is_relative_to(self.path):
            return absolute.relative_to(self.path).as_posix()
        return str(absolute)

    def resolve(self, path: str) -> Path:
        """Return the file that a row of samples.jsonl names; the inverse of `relative`.

        Whoever shows files to a person asks `trust.ShownFiles` instead.

        Raises:
            ValueError: If a relative path would leave the run.
            RunDamagedError: As `file`.
        """
        return Path(path) if Path(path).is_absolute() else self.file(path)


def _place(run: Path, name: str) -> Path:
    """Return a place in a run that no link leads to; what lies there may be one.

    Raises:
        RunDamagedError: A folder that it lies in is a link or no folder.
        ValueError: It would leave the run.
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\0" in name:
        raise ValueError(f"{name!r} is no path inside a run folder")
    path = run / name
    for folder in path.parents:
        if folder == run:
            break
        if (mode := _mode(folder)) is not None and not stat.S_ISDIR(mode):
            said = "is a link or no folder; put the folder itself in its place"
            raise RunDamagedError(folder, said)
    return path


def _mode(path: Path) -> int | None:
    """Return what lies at a path, no link followed; None if nothing does."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        why = f"cannot be read: {error.strerror}; make it readable"
        raise RunDamagedError(path, why) from None


def _rows(path: Path, shape: type[Any]) -> list[dict[str, Any]]:
    rows = read_lines(path)
    for number, row in enumerate(rows, start=1):
        if problem := mismatch(shape, row):
            raise damaged(path, problem, line=number)
    return rows


def _image(cls: str, *parts: str | int) -> str:
    *folders, seed = parts
    names = [_part(cls), *(_part(str(folder)) for folder in folders)]
    return "/".join(["images", *names, f"{int(seed)}.png"])


def _embeddings(name: str) -> str:
    return f"embeddings/{_part(name)}.safetensors"


def _part(name: str) -> str:
    """Check one folder name: any text but one that would walk elsewhere or hide."""
    if not name or name in {".", ".."} or re.search(r"[/\\\0]", name):
        raise ValueError(f"{name!r} cannot name a folder of a run")
    return name
