"""Running a contract suite that ships, in a pytest of its own, over what breaks its promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]


def failures(module: ModuleType, folder: Path) -> dict[str, set[str]]:
    """Run a module's tests, named test_...; by class the tests that fail, without `test_`."""
    said = folder / "suite.xml"
    options = ["--noconftest", "-p", "no:cacheprovider", "-q", f"--junitxml={said}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(module.__file__)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, set[str]] = {}
    for case in ElementTree.parse(said).iter("testcase"):
        name = case.attrib["classname"].rpartition(".")[2]
        failed = found.setdefault(name, set())
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(case.attrib["name"].partition("[")[0].removeprefix("test_"))
    return found


def uncaught(module: ModuleType, found: dict[str, set[str]]) -> dict[str, set[str]]:
    """By class the promises it breaks, in `breaks`, whose tests did not fail."""
    classes = {name: kind for name, kind in vars(module).items() if name.startswith("Test")}
    assert set(found) == set(classes), "a class was not run"
    missed = {name: classes[name].breaks - failed for name, failed in found.items()}
    return {name: promises for name, promises in missed.items() if promises}


def promises(suite: type) -> set[str]:
    """The names of a suite's tests, without `test_`."""
    return {name.removeprefix("test_") for name in vars(suite) if name.startswith("test_")}


def without_pytest(module: str) -> str:
    """What importing a module says where pytest is not installed."""
    code = f"import sys; sys.modules['pytest'] = None; import {module}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    return done.stderr.splitlines()[-1]
