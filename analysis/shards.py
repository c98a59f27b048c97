"""An append-only table on disk: 32-byte keys to rows of numbers, or to a note why there is none.

cache.py keeps embeddings and file digests in it. Each append is one new safetensors file, moved
into place whole, so any number of processes read and write without locks. It never trusts a
file: what is damaged is thrown away, and its rows are simply absent.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gapclose.analysis.errors import ShardGoneError

log = logging.getLogger(__name__)

KEY_BYTES: Final = 32
_SMALL: Final = 1024  # rows; smaller shards are merged
_MANY: Final = 128  # small shards, before a merge: many short calls leave many of them


@dataclass(frozen=True, slots=True)
class _Shard:
    keys: NDArray[np.uint8]  # (n, 32)
    values: NDArray[Any]  # (n, width)
    notes: Mapping[str, str]  # hex key -> note


class Table:
    """One folder of shards, indexed in memory as far as it has been read.

    Attributes:
        folder: Where the shards lie; made on the first append.
    """

    def __init__(self, folder: Path) -> None:
        """Index what is there."""
        self.folder = folder
        self._at: dict[bytes, tuple[str, int]] = {}
        self._notes: dict[bytes, str] = {}
        self._rows: dict[str, int] = {}  # shard -> rows
        self.refresh()

    def refresh(self) -> None:
        """Take up shards that other processes have written, forget those that are gone."""
        try:
            names = sorted(name for name in os.listdir(self.folder) if _is_shard(name))  # noqa: PTH208
        except OSError:  # not there yet, or not readable: then nothing is cached
            names = []
        if not self._rows.keys() <= set(names):
            self._at, self._notes, self._rows = {}, {}, {}
        for name in names:
            if name not in self._rows:
                self._take_up(name)

    def note(self, key: bytes) -> str | None:
        """Return why there is no row for a key, if that is known."""
        return self._notes.get(key)

    def __contains__(self, key: bytes) -> bool:
        """Tell whether there is a row or a note."""
        return key in self._at or key in self._notes

    def rows(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[Any]]:
        """Return the rows of those keys that have one."""
        try:
            return self._rows_of(keys)
        except ShardGoneError:  # merged or deleted by another process since it was indexed
            self.refresh()
            return self._rows_of(keys)

    def append(
        self, rows: Mapping[bytes, NDArray[Any]], notes: Mapping[bytes, str] | None = None
    ) -> None:
        """Write rows and notes as one shard.

        Raises:
            OSError: If the folder cannot be written.
        """
        notes = notes or {}
        if not rows and not notes:
            return
        shard = _Shard(
            keys=_key_array(list(rows)),
            values=np.stack(list(rows.values())) if rows else np.zeros((0, 0), dtype=np.float32),
            notes={key.hex(): note for key, note in notes.items()},
        )
        self._index(_write(self.folder, shard), shard)
        small = [name for name, n in self._rows.items() if n < _SMALL]
        if len(small) >= _MANY:
            self._merge(small)

    def _rows_of(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[Any]]:
        wanted: dict[str, list[tuple[bytes, int]]] = {}
        for key in keys:
            place = self._at.get(key)
            if place is not None:
                wanted.setdefault(place[0], []).append((key, place[1]))
        found: dict[bytes, NDArray[Any]] = {}
        for name, places in wanted.items():
            shard = _read(self.folder / name)
            if shard is None:
                raise ShardGoneError(name)
            found.update((key, shard.values[row]) for key, row in places)
        return found

    def _take_up(self, name: str) -> None:
        shard = _read(self.folder / name)
        if shard is not None:
            self._index(name, shard)

    def _index(self, name: str, shard: _Shard) -> None:
        raw = shard.keys.tobytes()
        for row in range(len(shard.keys)):
            self._at[raw[row * KEY_BYTES : (row + 1) * KEY_BYTES]] = (name, row)
        self._notes.update((bytes.fromhex(key), note) for key, note in shard.notes.items())
        self._rows[name] = len(shard.keys)

    def _merge(self, names: Sequence[str]) -> None:
        """Write several shards as one, then delete them; a reader that held one indexes anew."""
        shards = [(name, _read(self.folder / name)) for name in names]
        present = [(name, shard) for name, shard in shards if shard is not None]
        filled = [shard for _, shard in present if len(shard.keys)]
        if not filled:
            return
        merged = _Shard(
            keys=np.concatenate([shard.keys for shard in filled]),
            values=np.concatenate([shard.values for shard in filled]),
            notes={key: note for _, shard in present for key, note in shard.notes.items()},
        )
        _write(self.folder, merged)
        for name, _ in present:
            (self.folder / name).unlink(missing_ok=True)
        self.refresh()


def _is_shard(name: str) -> bool:
    return name.endswith(".safetensors") and not name.startswith(".")


def _key_array(keys: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), KEY_BYTES).copy()


def _checksum(shard: _Shard) -> str:
    notes = json.dumps(shard.notes, sort_keys=True).encode()
    total = zlib.crc32(notes, zlib.crc32(np.ascontiguousarray(shard.values).tobytes()))
    return f"{zlib.crc32(shard.keys.tobytes(), total):08x}"


def _write(folder: Path, shard: _Shard) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{uuid.uuid4().hex}.safetensors"
    scratch = folder / f".{name}.part"
    try:
        save_file(
            {"keys": shard.keys, "values": np.ascontiguousarray(shard.values)},
            scratch,
            metadata={"notes": json.dumps(shard.notes), "checksum": _checksum(shard)},
        )
        scratch.replace(folder / name)
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(str(error)) from error
    finally:
        scratch.unlink(missing_ok=True)
    return name


def _read(path: Path) -> _Shard | None:
    """Read a whole shard; None, and the file deleted, if it is damaged; None if it is gone."""
    try:
        with safe_open(path, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            shard = _Shard(
                keys=stored.get_tensor("keys"),
                values=stored.get_tensor("values"),
                notes=json.loads(metadata["notes"]),
            )
        whole = metadata["checksum"] == _checksum(shard) and len(shard.keys) == len(shard.values)
    except OSError:  # gone, or not readable just now
        return None
    except (SafetensorError, ValueError, KeyError, TypeError):
        whole = False
    if whole:
        return shard
    log.warning("%s: damaged, thrown away; its rows are made again", path)
    try:
        path.unlink(missing_ok=True)
    except OSError:
        log.warning("%s: cannot be deleted", path)
    return None
