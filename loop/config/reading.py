"""Reading: a config file, and what the command line overrides of it, as a `RunConfig`.

Every mistake is a ConfigError of one line that names the file, the key and the remedy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gapclose.loop.config.hints import shown
from gapclose.loop.config.overrides import override
from gapclose.loop.config.paths import CODE_FILE, check_path
from gapclose.loop.config.plain_yaml import parse_yaml
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.text_file import read_text
from gapclose.loop.config.validation_errors import first_error
from gapclose.loop.errors import ConfigError

__all__ = ["load_config", "packaged_config", "parse_config"]


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a config from a YAML file, or one that ships by its bare name (`pond`).

    Args:
        path: The file; relative paths inside it are taken from the current directory, but for code
            (`./file.py:Class`, `pkg.mod:Class`), which lies beside it.
        overrides: `a.b=value`, one key each, the value being YAML; later ones win.

    Raises:
        ConfigError: One line with the file, the key and the remedy.
    """
    file = _file_of(path)
    data = parse_yaml(read_text(file), where=str(file))
    if data is None:
        data = {}
    if not isinstance(data, dict):
        said = f"got {shown(data)}, expected keys such as real: and space:"
        raise ConfigError(said, where=file)
    for text in overrides:
        override(data, text)
    folder = Path(os.path.abspath(file.parent))  # noqa: PTH100 - keeps symbolic links
    try:
        config = parse_config(data, where=str(file), folder=folder)
    except ConfigError as error:
        raise _placed(error, overrides) from None
    if "code_folder" not in data and any(_lies_in(folder, c) for c in config.names_code()):
        config = config.model_copy(update={"code_folder": str(folder)})
    return config


def parse_config(
    data: Mapping[str, Any], *, where: str = "config", folder: Path | None = None
) -> RunConfig:
    """Check a plain mapping.

    Args:
        data: The keys.
        where: What they are of; it opens the line of the error.
        folder: Which code with a relative path lies in; the current one by default.

    Raises:
        ConfigError: One line with `where`, the key and the remedy.
    """
    try:
        return RunConfig.model_validate(dict(data), context={"folder": folder})
    except ValidationError as error:
        raise first_error(error, data, where=where) from None


def packaged_config(name: str) -> Path | None:
    """Return the path of a config that ships (`pond`, `cifar10-sd14`), or None."""
    stem = name.removesuffix(".yaml")
    path = Path(str(resources.files("gapclose.configs") / f"{stem}.yaml"))
    return path if re.fullmatch(r"[\w.-]+", stem) and path.is_file() else None


def _file_of(path: Path | str) -> Path:
    check_path(str(path))
    file = Path(path)
    if file.is_file():
        return file
    shipped = packaged_config(str(path))
    if shipped is not None:
        return shipped
    if file.is_dir():
        raise ConfigError("is a folder; give the YAML file of a config", where=file)
    raise ConfigError("no such file; write one with `gapclose init REAL_DIR`", where=file)


def _placed(error: ConfigError, overrides: Sequence[str]) -> ConfigError:
    """Name the override that a mistake is in, where it is in one."""
    for text in reversed(overrides):
        key = text.partition("=")[0].strip()
        if f"{error.key}.".startswith((f"{key}.", f"{key}[")):
            return ConfigError(error.problem, where=f"--set {text}", key=error.key)
    return error


def _lies_in(folder: Path, code: str) -> bool:
    """Return whether a folder holds the package or module of `pkg.mod:Class`."""
    if CODE_FILE.fullmatch(code):
        return False
    top = code.partition(":")[0].partition(".")[0]
    return (folder / top).is_dir() or (folder / f"{top}.py").is_file()
