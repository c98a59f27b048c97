"""Errors have one root a package, an exit code, and evidence that survives a process boundary."""

from __future__ import annotations

import errno
import importlib
import inspect
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapclose.analysis.errors import (
    AnalysisError,
    CaptionerError,
    ClassifierError,
    EmbedderError,
    InvalidImageError,
    ProposerError,
    RealDataError,
    TooFewError,
    TrainingDataError,
    UnreadableImageError,
)
from gapclose.generators.errors import ContractError, GeneratorConfigError, GeneratorError
from gapclose.loop.errors import (
    OUR_ERRORS,
    ConfigError,
    GapcloseError,
    MachineError,
    RunBusyError,
    RunDamagedError,
    RunMismatchError,
    RunOutdatedError,
    SeedsExhaustedError,
    UnwritableError,
    unwritable,
)

ROOTS = {"loop": GapcloseError, "generators": GeneratorError, "analysis": AnalysisError}
RUN = Path("/runs/r")


def errors_of(root: Path, room: str) -> Iterator[type[BaseException]]:
    """Every class of a package that can be raised."""
    for file in sorted((root / room).rglob("*.py")):
        name = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        module = importlib.import_module(f"gapclose.{name}")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and issubclass(kind, BaseException):
                yield kind


@pytest.mark.parametrize("room", ROOTS)
def test_every_error_lies_in_errors_has_the_root_and_an_exit_code(room: str, root: Path) -> None:
    found = [*errors_of(root, room)]
    assert ROOTS[room] in found
    for kind in found:
        assert kind.__module__ == f"gapclose.{room}.errors", kind
        assert issubclass(kind, ROOTS[room]), kind
        assert kind.exit_code in (1, 2), kind
        assert kind.__doc__


def test_an_error_of_any_package_is_ours() -> None:
    assert {*OUR_ERRORS} == {*ROOTS.values()}
    with pytest.raises(OUR_ERRORS) as told:
        raise TooFewError("frog", "real", 3, 20)
    assert told.value.exit_code == 2


def test_the_roots_are_light() -> None:
    code = (
        "import sys, gapclose.loop.errors;"
        "print([m for m in ('numpy', 'torch', 'PIL', 'yaml', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "evidence", "said"),
    [
        (ConfigError("bad; fix it"), {"where": None, "line": None}, "bad; fix it"),
        (
            ConfigError("bad; fix it", where="c.yaml", line=3, key="a.b"),
            {"where": "c.yaml", "line": 3, "key": "a.b"},
            "c.yaml, line 3: bad; fix it",
        ),
        (RunBusyError(RUN), {"path": RUN}, "/runs/r: another process is using this run"),
        (
            RunMismatchError(RUN, ["judge", "tune.seed"]),
            {"path": RUN, "keys": ("judge", "tune.seed")},
            "/runs/r: was made by another config: judge, tune.seed differ; name another",
        ),
        (RunOutdatedError(RUN), {"path": RUN}, "/runs/r: was tuned by an earlier version"),
        (
            RunDamagedError(RUN, "is damaged; remove it", line=2),
            {"path": RUN, "line": 2},
            "/runs/r, line 2: is damaged; remove it",
        ),
        (
            UnwritableError(errno.ENOSPC, "No space left on device", "a.json"),
            {"errno": errno.ENOSPC, "filename": "a.json"},
            "a.json: cannot be written: No space left on device; free some space, then",
        ),
        (MachineError("memory is out"), {"exit_code": 1}, "memory is out, then the same command"),
        (SeedsExhaustedError("trial 9: too many", 8), {"most": 8}, "trial 9: too many"),
        (
            GeneratorConfigError("no GPU here", key="generator.device"),
            {"key": "generator.device"},
            "generator.device: no GPU here",
        ),
        (ContractError("my:Gen", "returned None"), {"generator": "my:Gen"}, "my:Gen: returned"),
        (
            RealDataError("no image in it", path=RUN, cls="frog"),
            {"path": RUN, "cls": "frog"},
            "/runs/r: class frog: no image in it",
        ),
        (RealDataError("no object", path=RUN, line=2), {"line": 2}, "/runs/r, line 2: no object"),
        (
            TooFewError("frog", "synthetic", 3, 20),
            {"cls": "frog", "side": "synthetic", "n": 3, "needed": 20},
            "class frog: too few, 3 synthetic images where 20 are needed; add images",
        ),
        (CaptionerError("unknown", name="x"), {"name": "x"}, "captioner 'x': unknown"),
        (ClassifierError("unknown", name="x"), {"name": "x"}, "classifier 'x': unknown"),
        (ProposerError("unknown", name="x"), {"name": "x"}, "proposer 'x': unknown"),
        (EmbedderError("unknown", name="x"), {"name": "x"}, "embedder 'x': unknown"),
        (UnreadableImageError(RUN, "cut off"), {"path": RUN, "why": "cut off"}, "/runs/r: cut"),
        (InvalidImageError(RUN, "one colour"), {"why": "one colour"}, "/runs/r: one colour"),
        (TrainingDataError(RUN, "empty"), {"path": RUN}, "/runs/r: empty"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_evidence_makes_the_message_and_survives_a_process_boundary(
    error: Exception, evidence: dict[str, object], said: str
) -> None:
    for same in (error, pickle.loads(pickle.dumps(error))):
        assert type(same) is type(error)
        assert {key: getattr(same, key) for key in evidence} == evidence
        assert str(same).startswith(said)


def test_a_place_that_cannot_be_written_is_the_users_choice_and_a_full_disk_is_not() -> None:
    refused = unwritable("out", OSError(errno.EACCES, "Permission denied"), "name another folder")
    assert isinstance(refused, ConfigError)
    assert str(refused) == "out: cannot be written: Permission denied; name another folder"
    full = unwritable("out", OSError(errno.ENOSPC, "No space left on device"), "name another")
    assert isinstance(full, UnwritableError)
    assert full.filename == "out"
