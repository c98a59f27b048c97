"""Code of the user's own: what a config names as `pkg.mod:Name` or `./file.py:Name`, imported.

Embedders and proposers are loaded through here, only once a run may import what its config names.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["import_own"]


def import_own(module: str) -> ModuleType:
    """Import a module by its name, or by its file under a name that nothing else has."""
    if not module.endswith(".py"):
        return importlib.import_module(module)
    content = module.encode() + Path(module).read_bytes()
    name = f"gapclose_code_{hashlib.sha256(content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, module)
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # dataclasses find a class's module here
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[name]
        raise
    return made
