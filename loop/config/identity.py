"""Identity: what of a config makes it the same one, so that a run may go on with it.

When to stop and on which machine to run may change on resume, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from gapclose.loop.config.paths import without_folders
from gapclose.loop.config.schema import RunConfig

__all__ = ["changed_keys", "fingerprint", "flat", "is_free", "measured_as"]

_FREE_KEYS: Final = frozenset(
    {
        "tune.budget",
        "tune.trials",
        "tune.images",
        "device",
        "storage",
    }
)
"""What may change on resume, beside the `_FREE_OF_GENERATORS`."""
_FREE_OF_GENERATORS: Final = re.compile(
    r"(generator|generators\.[^.]+)\.(device|batch_size|timeout|offload)"
)

_PLACES: Final = frozenset({"real.path", "code_folder", "space.captions"})
_NAMED: Final = frozenset({"embedder", "judge", "space.proposer"})  # some by where they lie

_LATER: Final[dict[str, Any]] = {
    "code_folder": None,
    "real.test_share": 0.0,
    "tune.objective": "gap",
    "generator.ip_adapter": None,
    "space.captions": None,
    "space.strength": [],
    "space.ip_adapter_scale": [],
    "space.proposer": None,
    "generator.variant": None,
    "generator.loras": [],
    "generator.config": None,
    "generator.components": {},
    "generator.embeddings": [],
    "generator.compile": False,
    "generator.attention": "auto",
    "generator.quantize": "none",
    "generator.cache": "none",
    "space.parameters": {},
    "space.class_parameters": {},
    "baseline.parameters": {},
    "generators": {},
    "space.generators": {},
    "baseline.generators": {},
}
"""Keys that came later, and what they say where nobody uses them: such a config is what it was."""


def fingerprint(config: RunConfig) -> str:
    """Return the sha256 (64 hex digits) of everything that may not change on resume."""
    kept = {key: value for key, value in _said(config).items() if not is_free(key)}
    return _hashed(kept)


def _hashed(kept: dict[str, Any]) -> str:
    kept = {key: value for key, value in kept.items() if not _is_unused(key, value)}
    text = json.dumps(kept, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _said(config: RunConfig) -> dict[str, Any]:
    """Return what a config says by dotted keys, with the order of several generators.

    The first of them draws the baseline.
    """
    order = {"generators": [*config.generators]} if config.generators else {}
    return {**flat(config.to_dict()), **order}


def is_free(key: str) -> bool:
    """Return whether a dotted key may change on resume."""
    return key in _FREE_KEYS or bool(_FREE_OF_GENERATORS.fullmatch(key))


def _is_unused(key: str, value: Any) -> bool:
    """Return whether a key came later, and says what holds where nobody uses it."""
    known = re.sub(r"^generators\.[^.]+\.", "generator.", key)
    return known in _LATER and value == _LATER[known]


def measured_as(config: RunConfig) -> str:
    """Return 32 hex digits of what the figures of a run are of, wherever its files lie.

    Photos, models and code may be moved; what is embedded, tried and judged may not change.
    """

    def placeless(value: Any) -> Any:
        if isinstance(value, list):
            return [placeless(item) for item in value]
        return without_folders(value) if isinstance(value, str) else value

    kept = {
        key: placeless(value) if key in _NAMED else value
        for key, value in _said(config).items()
        if not is_free(key)
        and key not in _PLACES
        and not key.startswith(("generator.", "generators."))
    }
    return _hashed(kept)[:32]


def changed_keys(old: RunConfig, new: RunConfig) -> tuple[str, ...]:
    """Name the keys (dotted) in which two configs differ and a resumed run may not."""
    before, after = _said(old), _said(new)
    missing = object()
    # Of another list of generators all else that is said of them follows.
    others = before.get("generators") != after.get("generators")
    return tuple(
        sorted(
            key
            for key in {*before, *after}
            if not is_free(key)
            and not (others and "generators." in key)
            and before.get(key, missing) != after.get(key, missing)
        )
    )


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Write nested keys as dotted ones; lists are leaves."""
    if not isinstance(value, dict) or (prefix and not value):
        return {prefix: value}
    leaves: dict[str, Any] = {}
    for key, below in value.items():
        leaves.update(flat(below, f"{prefix}.{key}" if prefix else str(key)))
    return leaves
