"""How the threads of torch and BLAS wait for each other, which another busy process decides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

from gapclose.loop import tuning
from gapclose.loop.config.reading import parse_config

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
ASK = """
import json, os, sys
import gapclose.{package}
waits = dict((name, os.environ.get(name)) for name in {names})
print(json.dumps([waits, sorted({{"torch", "numpy"}} & {{*sys.modules}})]))
"""


def imported(package: str, **environment: str) -> tuple[dict[str, str | None], list[str]]:
    """What a fresh process waits by, and what heavy it has imported."""
    kept = {name: value for name, value in os.environ.items() if name not in WAITING}
    told = subprocess.run(
        [sys.executable, "-c", ASK.format(package=package, names=WAITING)],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    waits, heavy = json.loads(told.stdout)
    return waits, heavy


@pytest.mark.parametrize("package", ["analysis", "generators", "loop"])
def test_before_torch_loads_its_threads_are_told_not_to_spin(package: str) -> None:
    waits, heavy = imported(package)
    assert waits.pop("GOMP_SPINCOUNT") in ("1000", "4000")  # by what else runs just now
    assert waits == {"OMP_WAIT_POLICY": None, "KMP_BLOCKTIME": "1"}
    assert heavy == []


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="the system does not tell what runs")
def test_beside_busy_processes_they_spin_least() -> None:
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        time.sleep(0.2)
        waits, _ = imported("loop")
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    assert waits["GOMP_SPINCOUNT"] == "1000"


@pytest.mark.parametrize(
    "own", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7", "KMP_BLOCKTIME": "0"}]
)
def test_what_a_person_has_set_stays(own: dict[str, str]) -> None:
    waits, _ = imported("loop", **own)
    assert waits == dict.fromkeys(WAITING) | own


def test_while_it_tunes_blas_has_one_thread_and_gives_the_others_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    def blas() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    class StoppedError(Exception):
        pass

    def noted(*_: object, **__: object) -> None:
        seen.extend(blas())
        raise StoppedError

    seen: list[int] = []
    before = blas()
    monkeypatch.setattr(tuning, "open_session", noted)
    config = parse_config(
        {
            "real": {"kind": "pond", "per_class": 40},
            "classes": ["frog"],
            "generator": {"kind": "diffusers", "model": "pond", "size": 32},
            "embedder": "pond",
        }
    )
    with pytest.raises(StoppedError):
        tuning.tune(config, out=tmp_path / "run")
    assert seen
    assert {*seen} == {1}
    assert blas() == before
