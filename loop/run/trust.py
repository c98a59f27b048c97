"""Trust: whether a run folder was made by this user, and what it may name.

A run from elsewhere imports no code that its config names, writes to no database, and shows no
file from outside of its folder, unless the user says `--trust`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import os
import secrets
import stat
import tempfile
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
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.shapes import EnvironmentFile

__all__ = ["ShownFiles", "check_trust", "made_here", "origin", "recorded_marks"]

_KEY: Final = "origin.key"
_KEY_BYTES: Final = 32


def check_trust(
    run: RunDir,
    config: RunConfig,
    *,
    trust: bool,
    copies_photos: bool = False,
    writes_storage: bool = False,
) -> None:
    """Check that a config may be used, and let the code that it names be found.

    Args:
        run: The run that the config is of, or is to be of.
        config: What names the code.
        trust: Use it wherever the run was made.
        copies_photos: Whether the photos of the config are about to be written elsewhere.
        writes_storage: Whether its storage is about to be written to.

    Raises:
        ConfigError: A run from elsewhere names code, a database or a folder of photos, and is not
            to be trusted.
    """
    if not trust and run.config_path.is_file():
        named = []
        mine = made_here(run)
        if not mine and (code := config.names_code()):
            named.append(f"code to import ({', '.join(code)})")
        if not mine and (program := config.runs_program()):
            named.append(f"a program to run ({program[:200]})")
        if writes_storage and _is_others_storage(run, config):
            named.append("a database to write to (storage)")
        if not mine and copies_photos and isinstance(config.real, RealFolder):
            named.append(f"photos to copy ({config.real.path})")
        if named:
            raise ConfigError(
                f"was made elsewhere and names {', '.join(named)}; if you trust whoever made it, "
                "add --trust",
                where=run.config_path,
            )
    config.admit_code()


def _is_others_storage(run: RunDir, config: RunConfig) -> bool:
    """Return whether a storage is what a run names that this user has not made so."""
    own = config.storage is None or config.storage != run.config().storage
    return not own and not _is_marked(run, config, bound=True)


def made_here(run: RunDir) -> bool:
    """Return whether this user's gapclose made the run, with the config it now has.

    Its storage may be another's: a version before did not mark that.
    """
    try:
        return _is_marked(run, run.config(), bound=False)
    except ConfigError:
        return False


def _is_marked(run: RunDir, config: RunConfig, *, bound: bool) -> bool:
    """Return whether a run bears a mark of this user's, with `bound` one of its storage, too."""
    marks = recorded_marks(run)
    said = _said(config)[bound]
    return any(
        hmac.compare_digest(mark, own)
        for own in [_mark(key, said) for key in _keys()]
        for mark in marks
    )


def recorded_marks(run: RunDir) -> list[str]:
    """Return the marks of a run, whoever made them."""
    try:
        recorded = run.read_json("environment.json", EnvironmentFile).get("origin")
    except (FileNotFoundError, RunDamagedError):
        return []
    return recorded.split() if recorded and recorded.isascii() else []


def origin(config: RunConfig, *, before: RunDir | None = None) -> str:
    """Return marks that only this user can make, bound to what the config says.

    The secret never leaves the user's own folders, so a run folder from elsewhere cannot
    carry a valid mark, nor can one's own run be given back with other code in its config.

    Args:
        config: That the run is to have.
        before: The run whose config it replaces: while it does, both are this user's.
    """
    key = _own_key()
    marks = [_mark(key, said) for said in _said(config)]
    if before is not None and made_here(before):
        marks += [_mark(key, said) for said in _said(before.config())]
    return " ".join(dict.fromkeys(marks))


def _said(config: RunConfig) -> tuple[str, str]:
    """Return what is marked: the config, and the config with its storage.

    A storage may change on resume, but not by another's hand.
    """
    said = fingerprint(config)
    return said, said if config.storage is None else f"{said} storage {config.storage}"


def _mark(key: bytes, said: str) -> str:
    return hmac.new(key, said.encode(), hashlib.sha256).hexdigest()


def _key_folders() -> tuple[Path, Path]:
    """Return where the secret lies, best first: caches are cleared and moved."""
    return Path(platformdirs.user_config_dir("gapclose")), cache_folder()


def _keys() -> Iterator[bytes]:
    """Yield this user's secrets; a version before kept its own in the cache."""
    for folder in _key_folders():
        with contextlib.suppress(OSError):
            yield _read_key(folder / _KEY)


def _read_key(path: Path) -> bytes:
    """Read a secret.

    Raises:
        OSError: There is none, or others may know or have made it.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        found = os.fstat(file.fileno())
        private = found.st_uid == os.getuid() and not found.st_mode & 0o077
        key = file.read(_KEY_BYTES + 1) if stat.S_ISREG(found.st_mode) and private else b""
    if len(key) != _KEY_BYTES:
        raise PermissionError(errno.EACCES, "is no secret of this user's alone", str(path))
    return key


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _own_key() -> bytes:
    """Return the secret that this user marks by; it is made, and moved out of the cache."""
    kept, cache = (folder / _KEY for folder in _key_folders())
    with contextlib.suppress(OSError):
        return _read_key(kept)
    try:
        key = _read_key(cache)
    except OSError:
        key = secrets.token_bytes(_KEY_BYTES)
    try:
        return _kept_key(kept, key)
    except OSError:  # a home that is read-only, or is none
        return _kept_key(cache, key)


def _kept_key(path: Path, key: bytes) -> bytes:
    """Keep a secret, unless another process has just kept its own; return that which stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # for its user alone
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 - of a handle
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()
    return _read_key(path)


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
            for source in (config.real, *config.drawn_by.values())
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
