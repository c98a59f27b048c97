"""Trust: whether a run folder was made by this user, and what it may name.

A run from elsewhere imports no code that its config names, writes to no database, and shows no
file from outside of its folder, unless the user says `--trust`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import platformdirs

from gapclose.analysis.cache import cache_folder
from gapclose.loop.config.identity import fingerprint
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.sources import FolderSpec, RealFolder
from gapclose.loop.errors import ConfigError, RunDamagedError
from gapclose.loop.run.files import read_bytes, write_bytes
from gapclose.loop.run.folder import RunDir

__all__ = ["ShownFiles", "check_trust", "made_here", "origin"]

_KEY: Final = "origin.key"


def check_trust(
    run: RunDir, config: RunConfig, *, trust: bool, copies_photos: bool = False
) -> None:
    """Let the code that a config names be found.

    Args:
        run: The run that the config is of, or is to be of.
        config: What names the code.
        trust: Let it be found wherever the run was made.
        copies_photos: Whether the photos of the config are about to be written elsewhere.

    Raises:
        ConfigError: A run from elsewhere names code, a database or a folder of photos, and is not
            to be trusted.
    """
    if not trust and run.config_path.is_file() and not made_here(run):
        named = []
        if code := config.names_code():
            named.append(f"code to import ({', '.join(code)})")
        if config.storage is not None and config.storage == run.config().storage:
            named.append("a database to write to (storage)")
        if copies_photos and isinstance(config.real, RealFolder):
            named.append(f"photos to copy ({config.real.path})")
        if named:
            raise ConfigError(
                f"was made elsewhere and names {', '.join(named)}; if you trust whoever made it, "
                "add --trust",
                where=run.config_path,
            )
    config.admit_code()


def made_here(run: RunDir) -> bool:
    """Return whether this user's gapclose made the run, with the config it now has."""
    try:
        found = run.read_json("environment.json")
        config = run.config()
    except (FileNotFoundError, RunDamagedError, ConfigError):
        return False
    recorded = found.get("origin") if isinstance(found, dict) else None
    if not isinstance(recorded, str) or not recorded.isascii():
        return False
    return any(
        hmac.compare_digest(mark, _mark(key, config))
        for key in _keys()
        for mark in recorded.split()
    )


def origin(config: RunConfig, *, before: RunDir | None = None) -> str:
    """Return a mark that only this user can make, bound to what the config says.

    The secret never leaves the user's own folders, so a run folder from elsewhere cannot
    carry a valid mark, nor can one's own run be given back with other code in its config.

    Args:
        config: That the run is to have.
        before: The run whose config it replaces: while it does, both are this user's.
    """
    marks = [_mark(next(_keys(), None) or _new_key(), config)]
    if before is not None and made_here(before):
        marks.append(_mark(next(_keys()), before.config()))
    return " ".join(dict.fromkeys(marks))


def _mark(key: bytes, config: RunConfig) -> str:
    said = fingerprint(config)
    if config.storage is not None:  # may change on resume, but not by another's hand
        said += f" storage {config.storage}"
    return hmac.new(key, said.encode(), hashlib.sha256).hexdigest()


def _key_folders() -> tuple[Path, Path]:
    """Return where the secret lies, best first: caches are cleared and moved."""
    return Path(platformdirs.user_config_dir("gapclose")), cache_folder()


def _keys() -> Iterator[bytes]:
    """Yield this user's secrets; a version before kept its own in the cache."""
    for folder in _key_folders():
        with contextlib.suppress(OSError, RunDamagedError):
            yield read_bytes(folder / _KEY)


def _new_key() -> bytes:
    key = secrets.token_bytes(32)
    kept, cache = _key_folders()
    try:
        _keep(kept / _KEY, key)
    except OSError:  # a home that is read-only, or is none
        _keep(cache / _KEY, key)
    return key


def _keep(path: Path, key: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, key)
    path.chmod(0o600)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFiles:
    """The image files of a run that may be shown: its own, and those of the user's own folders.

    Attributes:
        run: The run.
        folders: Of images outside of it: those that its config names, where this user has made it
            or trusts it; a run from elsewhere would put private pictures into a page.
    """

    run: RunDir
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, run: RunDir, *, trust: bool = False) -> ShownFiles:
        """Find out what a run may show."""
        if not trust and not made_here(run):
            return cls(run=run, folders=())
        config = run.config()
        named = (
            source.path
            for source in (config.real, config.generator)
            if isinstance(source, RealFolder | FolderSpec)
        )
        return cls(run=run, folders=tuple(Path(path).expanduser() for path in named))

    def find(self, name: Any) -> Path | None:
        """Return the file that a row of samples.jsonl names; None where it is not to be shown."""
        if not isinstance(name, str) or "\0" in name:
            return None
        path = Path(name)
        if ".." in path.parts:
            return None
        if path.is_absolute():  # links in a user's own folders are the user's own
            return path if any(path.is_relative_to(folder) for folder in self.folders) else None
        try:
            return self.run.file(name)
        except ValueError:  # damaged, too
            return None
