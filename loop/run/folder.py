"""The run folder: where each thing of a run lies, and how its files are read and written.

One process at a time writes it, under `lock`; status, report, viewer and export only read it. It
refuses paths that leave the folder, and it imports nothing that a config names.
"""

from __future__ import annotations

import json
import logging
import os
import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from gapclose.loop.config.reading import load_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.errors import ConfigError, RunDamagedError
from gapclose.loop.run.files import (
    append_line,
    own_file,
    read_lines,
    remove,
    to_json,
    write_text,
)

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
        return self.journal_path.is_file() or self.trials_path.is_file()

    @property
    def holds_images(self) -> bool:
        """Return whether it holds generated images."""
        return (self.path / "images").is_dir()

    def has(self, name: str) -> bool:
        """Return whether RUN/name exists."""
        return self._inside(name).is_file()

    def trials(self) -> list[dict[str, Any]]:
        """Read every finished trial in the order of its line; a torn last line is left out."""
        return read_lines(self.trials_path)

    def samples(self) -> list[dict[str, Any]]:
        """Read the rows of samples.jsonl; there are none before it is written."""
        return read_lines(self.path / "samples.jsonl")

    def read_json(self, name: str) -> Any:
        """Read RUN/name.

        Raises:
            FileNotFoundError: If the run has not come that far.
            RunDamagedError: If it is not JSON, or JSON that cannot be read here.
        """
        path = self._inside(name)
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise ValueError("it is no file")
            return json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:  # too many digits, nested too deeply
            why = f"is damaged ({error}); remove it and resume"
            raise RunDamagedError(path, why) from None

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
        write_text(self._inside(name), to_json(value, indent=1) + "\n", durable=durable)

    def append_line(self, name: str, row: Mapping[str, Any], *, durable: bool = True) -> None:
        """Append a row to a file of lines; arguments as in `write_json`.

        Raises:
            UnwritableError: It cannot be written.
        """
        append_line(self._inside(name), to_json(row).encode(), durable=durable)

    def write_lines(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace a file of lines, unless it holds these rows already."""
        path, text = self._inside(name), "".join(f"{to_json(row)}\n" for row in rows)
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)

    def write_samples(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Replace samples.jsonl: one row per image that is shown to a person."""
        self.write_lines("samples.jsonl", samples)

    def remove(self, name: str) -> None:
        """Remove a file that is not true any more, if it is there."""
        remove(self._inside(name))

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
        except OSError as failed:
            log.warning("%s: cannot be written: %s", path, failed.strerror)

    # -------------------------------------------------------------------------------- paths

    @property
    def config_path(self) -> Path:
        """RUN/config.yaml."""
        return self.path / "config.yaml"

    @property
    def journal_path(self) -> Path:
        """RUN/journal.jsonl."""
        return self.path / "journal.jsonl"

    @property
    def trials_path(self) -> Path:
        """RUN/trials.jsonl."""
        return self.path / "trials.jsonl"

    @property
    def study_path(self) -> Path:
        """RUN/study.db."""
        return self.path / "study.db"

    @property
    def real_path(self) -> Path:
        """RUN/real, where `real: {kind: pond}` is rendered."""
        return self.path / "real"

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

    def relative(self, path: Path) -> str:
        """Name `path` as rows of samples.jsonl do: relative inside the run, else absolute."""
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - keeps symbolic links
        if absolute.is_relative_to(self.path):
            return absolute.relative_to(self.path).as_posix()
        return str(absolute)

    def resolve(self, path: str) -> Path:
        """Return the file that a row of samples.jsonl names; the inverse of `relative`.

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


def _part(name: str) -> str:
    """Check one folder name: any text but one that would walk elsewhere or hide."""
    if not name or name in {".", ".."} or re.search(r"[/\\\0]", name):
        raise ValueError(f"{name!r} cannot name a folder of a run")
    return name
