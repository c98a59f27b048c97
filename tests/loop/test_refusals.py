"""What is wrong with a config is said in one line, and nothing is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rig import HERE, here, written

from gapclose.generators.pond.renderer import write_real
from gapclose.loop.config.reading import load_config
from gapclose.loop.run.joining import create_run


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_real(folder / "photos", per_class=40, classes=("frog", "ship"))
    return written(folder / "tiny.yaml", folder / "photos")


def refused(tmp_path: Path, config: Path, *words: object, hub: str | None = None) -> str:
    """The one line that a run refuses with; nothing may be written."""
    out = tmp_path / "run"
    if hub is None:
        code, err = here("tune", config, "--out", out, *words)
    else:  # a process of its own: the hub's address is read once in each
        done = subprocess.run(
            [sys.executable, "-m", "gapclose.loop.cli", "tune", config, "--out", out, *words],
            env={**os.environ, "PYTHONPATH": str(HERE), "HF_ENDPOINT": hub},
            capture_output=True,
            text=True,
            check=False,
        )
        code, err = done.returncode, done.stderr
    assert code == 2, err
    said = [line for line in err.splitlines() if line]
    assert len(said) == 1, err
    assert said[0].startswith("error: ")
    assert not out.exists()
    return said[0]


BAD = {
    "unknown key": (["--set", "space.guidence_scale=3"], ("guidence_scale", "guidance_scale")),
    "wrong type": (["--set", "tune.trials=many"], ("tune.trials", "whole number")),
    "missing folder": (["--set", "real.path=/nowhere/at/all"], ("/nowhere/at/all",)),
    "unknown class": (["--set", "classes=[frogs]"], ("frogs", "did you mean frog")),
    "no slot": (["--set", "space.prompt=a photo"], ("space.prompt", "{class}")),
    "unknown embedder": (["--set", "embedder=ponds"], ("ponds", "pond")),
    "unknown judge": (["--set", "judge=transformer:x"], ("transformer",)),
    "unknown generator": (["--set", "generator.kind=diffuser"], ("diffuser", "diffusers")),
    "images that exist": (
        ["--set", "generator={kind: folder, path: here}"],
        ("generator.kind", "draws no new ones", "gapclose audit --real"),
    ),
    "a storage in memory": (["--set", "storage=sqlite://"], ("storage", "memory", "FILE")),
    "a storage in shared memory": (
        ["--set", "storage=sqlite:///file:x?mode=memory&uri=true"],
        ("storage", "memory", "FILE"),
    ),
    "no such device": (["--set", "device=cuda:99"], ("cuda:99", "auto or cpu")),
    "no such storage": (["--set", "storage=nonsense"], ("storage", "nonsense", "URL")),
    "no such size": (
        ["--set", "generator={kind: diffusers, model: pond, size: 33}", "--set",
         "space.scheduler=[ddim]", "--set", "baseline.scheduler=ddim"],
        ("generator.size", "33x33", "multiples of 4"),
    ),
    "a scheduler that does not fit": (
        ["--set", "generator={kind: diffusers, model: pond}", "--set",
         "space.scheduler=[ddim, heun]", "--set", "baseline.scheduler=ddim"],
        ("scheduler", "'heun'", "usable: "),
    ),
    "worth of one class": (
        ["--set", "tune.objective=worth", "--set", "classes=[frog]"],
        ("tune.objective", "one class", "gap"),
    ),
    "no such code": (["--set", "generator.kind=nobody:Nothing"], ("nobody",)),
}  # fmt: skip


@pytest.mark.slow
def test_nothing_can_be_written_there(tmp_path: Path, config: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "run", Path("/proc/run")):
        code, err = here("tune", config, "--out", out)
        assert (code, err.count("\n")) == (2, 1), err
        assert "cannot be written" in err
        assert "--out" in err


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case: str, tmp_path: Path, config: Path) -> None:
    words, named = BAD[case]
    said = refused(tmp_path, config, *words)
    for word in named:
        assert word in said, said


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path, config: Path) -> None:
    words = ["--set", "generator={kind: diffusers, model: nobody/nothing-at-all}"]
    words += ["--set", "space.scheduler=[ddim]", "--set", "baseline.scheduler=ddim"]
    said = refused(tmp_path, config, *words, hub="http://127.0.0.1:9")
    assert "nobody/nothing-at-all" in said
    assert "local folder" in said


@pytest.mark.slow
def test_a_storage_is_not_made_for_what_is_refused(tmp_path: Path, config: Path) -> None:
    database = tmp_path / "studies.db"
    words = ["--set", f"storage=sqlite:///{database}", "--set", "real.path=/nowhere/at/all"]
    assert "/nowhere/at/all" in refused(tmp_path, config, *words)
    assert not database.exists()


@pytest.mark.slow
def test_an_empty_folder_is_one_line(tmp_path: Path, config: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "frog").mkdir(parents=True)
    assert str(empty) in refused(tmp_path, config, "--set", f"real.path={empty}")


def test_a_device_that_is_not_there_leaves_a_run_as_it_was(tmp_path: Path, config: Path) -> None:
    """A resumed run may be told another device, and its config then says the new one."""
    run = create_run(tmp_path / "run", load_config(config))
    before = run.config_path.read_bytes()
    code, err = here("tune", config, "--out", run.path, "--set", "device=cuda:99")
    assert (code, run.config_path.read_bytes()) == (2, before), err
