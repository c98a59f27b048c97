"""A disk that is full, or lets itself be written no more: one line, and the run goes on later."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from rig import command, finished, here, wait_for_lines, written
from small_disk import UnmountableError, mounted, tune_in_steps

from gapclose.generators.images import write_pngs
from gapclose.loop.config.reading import load_config
from gapclose.loop.report.run_view import Run
from gapclose.loop.report.status import read_status
from gapclose.loop.run.files import _opened, append_line, write_bytes
from gapclose.loop.run.joining import create_run

pytestmark = pytest.mark.slow

WHAT_COUNTS = ("class", "number", "stage", "state", "recipe", "seeds", "gap", "value", "invalid")


def counts(run: Path) -> list[dict[str, Any]]:
    return [{key: row[key] for key in WHAT_COUNTS} for row in Run.open(run).trials]


def one_line(err: str) -> str:
    """The line that says it; a warning that a study lags behind by a trial may come before."""
    *before, said = err.splitlines()
    assert all("is not in the study yet" in line for line in before), err
    return said


@pytest.fixture(scope="module")
def config(photos: Path) -> Path:
    return written(photos.parent / "full.yaml", photos)


@pytest.fixture(scope="module")
def unbroken(config: Path) -> Path:
    run = config.parent / "unbroken-by-disk"  # other tests have theirs beside it
    assert here("tune", config, "--out", run)[0] == 0
    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    try:
        with mounted(tmp_path / "disk", kib=48 * 1024) as place:
            yield place
    except UnmountableError as error:
        pytest.skip(f"nothing can be mounted here: {error}")


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return ballast


def test_a_disk_that_fills_up_in_the_night_costs_the_night_and_no_more(
    config: Path, unbroken: Path, small_disk: Path
) -> None:
    out = small_disk / "run"
    words = ("tune", config, "--out", out)
    process = command(*words, SLOW_POND_SECONDS="0.05")
    wait_for_lines(process, out, 3)
    ballast = fill(small_disk)
    code, err = finished(process)
    assert code == 1, err
    said = one_line(err)
    assert said.startswith(f"error: {out}/")
    assert said.endswith(
        ": cannot be written: No space left on device; free some space, then the same command "
        "goes on"
    )
    assert {row["state"] for row in Run.open(out).trials} == {"complete"}
    assert read_status(out).running is False
    ballast.unlink()
    code, err = here(*words)
    assert (code, err) == (0, "")
    assert counts(out) == counts(unbroken)
    assert (out / "mixtures.json").read_bytes() == (unbroken / "mixtures.json").read_bytes()


def test_a_disk_that_is_full_again_and_again_costs_no_trial(
    config: Path, unbroken: Path, small_disk: Path
) -> None:
    """tests/benchmarks/disk_steps.py does it every 50 kB."""
    full = [*tune_in_steps(config, small_disk, first=50, step=900)]
    assert len(full) >= 5, full
    out = small_disk / "run"
    assert counts(out) == counts(unbroken)
    assert (out / "mixtures.json").read_bytes() == (unbroken / "mixtures.json").read_bytes()


def test_whatever_cannot_be_written_no_trial_fails_for_it(
    config: Path, unbroken: Path, tmp_path: Path
) -> None:
    """An image, an embedding, a line, a fold: each is done again by the next start."""
    out = tmp_path / "run"
    full = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    hit: list[int] = []

    def failing(at: int, what: Any, *, where: str = "") -> Any:
        calls: list[int] = []

        def write(of: Any, *args: Any, **options: Any) -> Any:
            name = str(Path(f"/proc/self/fd/{of}").readlink() if isinstance(of, int) else of)
            calls.extend([1] * (where in name))
            if len(calls) == at:
                hit.append(at)
                raise full
            return what(of, *args, **options)

        return write

    def unsynced(at: int, where: str) -> tuple[str, Any]:
        return "files.os.fsync", failing(at, os.fsync, where=where)

    for name, write in (
        ("images.write_pngs", failing(3, write_pngs)),  # of a trial
        unsynced(2, "/embeddings/"),
        unsynced(7, "/journal.jsonl"),
        ("folder.append_line", failing(2, append_line, where="/trials.jsonl")),
        ("files._opened", failing(4, _opened, where="/.state.json")),
        ("images.write_pngs", failing(1, write_pngs, where="confirm")),  # of a fold
        unsynced(2, "-confirm-0-"),
        unsynced(1, "/.mixtures.json"),
        unsynced(1, "/.gap.json"),
        unsynced(1, "/.report.html"),
    ):
        with patch(f"gapclose.loop.run.{name}", write):
            code, err = here("tune", config, "--out", out)
        assert code == 1, err
        assert "Disk quota exceeded; free some space" in one_line(err)
        assert {row["state"] for row in Run.open(out).trials} <= {"complete"}
    assert len(hit) == 10
    assert here("tune", config, "--out", out) == (0, "")
    assert counts(out) == counts(unbroken)
    assert (out / "mixtures.json").read_bytes() == (unbroken / "mixtures.json").read_bytes()


def test_a_failed_trial_whose_log_cannot_be_written_is_a_failed_trial(
    photos: Path, tmp_path: Path
) -> None:
    tune = {"budget": None, "trials": 2, "images_per_trial": 8}
    config = written(tmp_path / "c.yaml", photos, tune=tune)
    create_run(tmp_path / "run", load_config(config))
    (tmp_path / "run" / "errors.log").mkdir()
    code, err = here("tune", config, "--out", tmp_path / "run", SLOW_POND_FAILS="ship")
    assert code == 0, err
    assert "Traceback" not in err
    states = {(row["class"], row["state"]) for row in Run.open(tmp_path / "run").trials}
    assert states == {("frog", "complete"), ("ship", "fail")}


def test_reports_audits_and_starters_say_it_too(
    unbroken: Path, photos: Path, config: Path, tmp_path: Path
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fails(path: Path, data: bytes, **options: Any) -> None:
        if path.name in ("report.html", "gap.json", "mine.yaml"):
            with patch("gapclose.loop.run.files.os.fsync", side_effect=full):
                write_bytes(path, data, **options)
        write_bytes(path, data, **options)

    before = (unbroken / "report.html").read_bytes()
    for words, name in (
        (("report", unbroken), "report.html"),
        (("audit", config, "--out", tmp_path / "audit"), "gap.json"),
        (("init", photos, "-o", tmp_path / "mine.yaml"), "mine.yaml"),
    ):
        with patch("gapclose.loop.run.files.write_bytes", fails):
            code, err = here(*words)
        assert code == 1, err
        assert one_line(err).startswith("error: ")
        assert f"{name}: cannot be written: No space left on device; free some space" in err
    assert (unbroken / "report.html").read_bytes() == before
    assert not (tmp_path / "mine.yaml").exists()
    assert here("audit", config, "--out", tmp_path / "audit")[0] == 0
