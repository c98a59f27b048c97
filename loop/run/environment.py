"""The environment: what decides the pixels and the numbers of a run, besides its config."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any, Final

__all__ = ["environment"]

_PACKAGES: Final = (
    "gapclose",
    "accelerate",
    "diffusers",
    "fiftyone",
    "numpy",
    "onnxruntime",
    "open_clip_torch",
    "optuna",
    "peft",
    "pillow",
    "scikit-learn",
    "scipy",
    "torch",
    "torchvision",
    "transformers",
    "umap-learn",
)


def environment() -> dict[str, Any]:
    """Python, platform and package versions; no host, user or folder names."""
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "cpus": os.cpu_count(),
        "packages": versions,
    }
