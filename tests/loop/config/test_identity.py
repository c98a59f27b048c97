"""What may change between the sessions of a run."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from pond_config import pond_config

from gapclose.loop.config.identity import FREE_KEYS, changed_keys, fingerprint, flat


def test_a_resumed_run_may_change_limits_and_machine_only() -> None:
    old = pond_config()
    free = pond_config(
        tune={"budget": "1h", "trials": 5, "images": 7},
        device="cpu",
        storage="sqlite:///other.db",
        generator={"kind": "diffusers", "model": "pond", "device": "cuda", "batch_size": 4},
    )
    assert changed_keys(old, free) == ()
    assert fingerprint(old) == fingerprint(free)
    other = pond_config(
        tune={"seed": 1},
        judge="pond-judge",
        space={"slots": {"color": ["red"]}},
        generator={"kind": "diffusers", "model": "pond", "dtype": "float16"},
    )
    assert changed_keys(old, other) == (
        "generator.dtype",
        "judge",
        "space.slots",
        "space.slots.color",
        "tune.seed",
    )
    assert fingerprint(old) != fingerprint(other)


@pytest.mark.parametrize(
    ("real", "own"), [({"kind": "pond"}, {}), ({"path": "/photos"}, {"real.test_share": 0.0})]
)
def test_a_config_that_does_not_use_a_later_key_is_what_it_was(
    real: dict[str, Any], own: dict[str, Any]
) -> None:
    """Runs of before there was one go on."""
    config = pond_config(real=real)
    kept = {k: v for k, v in flat(config.to_dict()).items() if k not in FREE_KEYS}
    later = {"code_folder": None, "tune.objective": "gap", **own}
    assert {key: kept.pop(key) for key in later} == later
    text = json.dumps(kept, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert fingerprint(config) == hashlib.sha256(text.encode()).hexdigest()
