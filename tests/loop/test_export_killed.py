"""An export that is killed: what it leaves, who goes on with it, and that nobody can tell."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from make_run import Renderer, make_run
from painter import painted_run
from rig import command, finished, here

from gapclose.generators.errors import MemoryOutError
from gapclose.generators.images import ImageBatch, write_png
from gapclose.generators.recipe import Draw
from gapclose.loop.errors import ConfigError
from gapclose.loop.export import export
from gapclose.loop.exporting.part_folder import ImageLog, take_away
from gapclose.loop.run.folder import RunDir

PER_CLASS = 150  # of 10 that are shown
ANEW = 2 * (PER_CLASS - 10)  # images that the generator makes for an undisturbed export
SPOIL = 7
CODE = {"kind": "make_run:Renderer", "spoil": SPOIL}
DATA = "gapclose.loop.exporting.data_set"
DEATHS = [
    f"{DATA}:write_png:before:1",
    f"{DATA}:write_png:after:5",  # what is shown already
    f"{DATA}:write_png:after:40",  # half of a call of the generator
    "gapclose.loop.exporting.part_folder:ImageLog.add:before:3",
    "gapclose.loop.exporting.part_folder:ImageLog.add:after:3",
    f"{DATA}:Metadata.write:before:1",  # all images of all classes
    "pathlib:Path.write_text:after:1",  # all but its name
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    path = tmp_path_factory.mktemp("killed") / "run"
    return make_run(path, classes=("frog", "truck"), per_class=10, config={"generator": CODE})


@pytest.fixture(scope="module")
def whole(run: RunDir) -> dict[str, bytes]:
    out = run.path.parent / "whole"
    code, err = exported(run, out)
    assert code == 0, err
    return tree(out)


def words(run: RunDir, out: Path, *more: str) -> list[object]:
    return ["export", run.path, out, "--per-class", PER_CLASS, "--trust", *more]


def exported(run: RunDir, out: Path, *more: str) -> tuple[int, str]:
    return here(*map(str, words(run, out, *more)))


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def asked() -> Iterator[list[int]]:
    """The seeds that the generator is asked for in this process."""
    found: list[int] = []
    generate = Renderer.generate

    def noted(self: Renderer, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        found.extend(seeds)
        return generate(self, draw, seeds)

    with patch.object(Renderer, "generate", noted):
        yield found


def killed(run: RunDir, out: Path, at: str) -> Path:
    """Kill an export; return what it leaves."""
    process = command(*words(run, out), KILL_AT=at)
    code, err = finished(process)
    assert code == -signal.SIGKILL, err
    assert not out.exists()
    return out.parent / f".{out.name}.part"


def assert_resumed(run: RunDir, whole: dict[str, bytes], out: Path, asked: list[int]) -> None:
    """The same again makes what was missing, and nothing besides."""
    done = logged(out.with_name(f".{out.name}.part"))
    assert done > 0
    asked.clear()
    assert exported(run, out)[0] == 0
    assert tree(out) == whole
    assert fresh(asked) == ANEW - done


def logged(part: Path) -> int:
    """How many images an export that was cut off has noted as whole."""
    return sum(len(its) for log in part.glob("*.jsonl") for its in ImageLog(log)._known.values())


def fresh(asked: Sequence[int]) -> int:
    """How many valid images the generator was asked for."""
    return sum(seed % SPOIL > 0 for seed in asked)


@pytest.mark.parametrize("at", DEATHS)
def test_an_export_that_was_killed_is_resumed_and_nobody_can_tell(
    run: RunDir, whole: dict[str, bytes], tmp_path: Path, asked: list[int], at: str
) -> None:
    done = logged(killed(run, tmp_path / "out", at))
    code, err = exported(run, tmp_path / "out")
    assert code == 0, err
    assert tree(tmp_path / "out") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert fresh(asked) == ANEW - done
    if DEATHS.index(at) >= 4:
        assert done > 30


def test_two_kills_in_a_row(run: RunDir, whole: dict[str, bytes], tmp_path: Path) -> None:
    killed(run, tmp_path / "out", DEATHS[4])
    killed(run, tmp_path / "out", DEATHS[2])
    assert exported(run, tmp_path / "out")[0] == 0
    assert tree(tmp_path / "out") == whole


@pytest.fixture
def part(run: RunDir, tmp_path: Path) -> Path:
    """What a kill late in an export to `out` leaves."""
    return killed(run, tmp_path / "out", DEATHS[5])


def test_what_is_damaged_of_it_is_made_again_with_what_was_made_at_once(
    run: RunDir, whole: dict[str, bytes], tmp_path: Path, part: Path, asked: list[int]
) -> None:
    (data,) = (path for path in part.iterdir() if path.is_dir())
    pictures = sorted((data / "frog").glob("*.png"))
    pictures[3].write_bytes(pictures[3].read_bytes()[:50])
    pictures[4].unlink()
    write_png(pictures[5], Renderer().generate(Draw(prompt="a red frog"), [1]).images[0])
    (data / "frog" / ".x.part").touch()  # half of a file
    (data / "frog" / "mine.txt").touch()
    (data / "metadata.jsonl").touch()
    assert exported(run, tmp_path / "out")[0] == 0
    assert tree(tmp_path / "out") == whole
    assert 0 < len(asked) < PER_CLASS


@pytest.mark.parametrize("harm", [b"", b"\0" * 400, b"{}\n", b'{"recipe": 1, "first": "x"}\n'])
def test_a_damaged_log_vouches_for_nothing(
    run: RunDir, whole: dict[str, bytes], tmp_path: Path, part: Path, harm: bytes
) -> None:
    (log,) = part.glob("*.jsonl")
    log.write_bytes(harm)
    assert exported(run, tmp_path / "out")[0] == 0
    assert tree(tmp_path / "out") == whole


def test_another_request_begins_anew_and_takes_the_rest_away(
    run: RunDir, tmp_path: Path, part: Path, asked: list[int]
) -> None:
    code, err = exported(run, tmp_path / "out", "--only-confirmed")
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md", "frog", "metadata.jsonl",
    ]  # fmt: skip
    assert len(asked) >= PER_CLASS - 10
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_another_run_does_not_go_on_with_it(
    run: RunDir, tmp_path: Path, part: Path, asked: list[int]
) -> None:
    shutil.copytree(run.path, tmp_path / "copy")
    assert exported(RunDir.open(tmp_path / "copy"), tmp_path / "out")[0] == 0
    assert len(asked) >= 2 * (PER_CLASS - 10)


def test_where_another_export_is_writing_a_second_one_says_so(
    run: RunDir, tmp_path: Path, part: Path
) -> None:
    before = tree(part)
    with (part / "lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, err = exported(run, tmp_path / "out")
    assert code == 2
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert said == [
        f"error: {tmp_path / 'out'}: another export is writing there; wait for it to end, or name "
        "another folder"
    ]
    assert tree(part) == before
    assert not (tmp_path / "out").exists()


def test_links_in_it_are_not_followed(
    run: RunDir, whole: dict[str, bytes], tmp_path: Path, part: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "frog").mkdir(parents=True)
    (elsewhere / "mine.png").write_bytes(b"mine")
    (data,) = (path for path in part.iterdir() if path.is_dir())
    shutil.rmtree(data / "frog")
    (data / "frog").symlink_to(elsewhere / "frog")
    picture = next((data / "truck").iterdir())
    picture.unlink()
    picture.symlink_to(elsewhere / "mine.png")
    assert exported(run, tmp_path / "out")[0] == 0
    assert tree(tmp_path / "out") == whole
    assert tree(elsewhere) == {"mine.png": b"mine"}
    (tmp_path / ".other.part").symlink_to(elsewhere)
    code, err = exported(run, tmp_path / "other")
    assert (code, "is no folder, where an export is to grow; remove it" in err) == (2, True)
    assert tree(elsewhere) == {"mine.png": b"mine"}


def test_an_interrupted_export_is_resumed_too(
    run: RunDir, whole: dict[str, bytes], tmp_path: Path, asked: list[int]
) -> None:
    with patch(f"{DATA}.write_png", side_effect=[None] * 20 + [KeyboardInterrupt]):
        code, err = exported(run, tmp_path / "out")
    again = f"gapclose export {run.path} {tmp_path / 'out'} --per-class {PER_CLASS} --trust"
    assert code == 130
    assert err.splitlines()[-1] == (
        f"interrupted; what is done is kept, this goes on with it: {again}"
    )
    assert (tmp_path / ".out.part").is_dir()
    asked.clear()
    assert exported(run, tmp_path / "out")[0] == 0
    assert tree(tmp_path / "out") == whole


def test_a_full_disk_keeps_what_there_is(
    run: RunDir, whole: dict[str, bytes], tmp_path: Path, asked: list[int]
) -> None:
    full, calls = OSError(28, os.strerror(28)), []

    def fills(*args: object, **options: object) -> None:
        calls.append(args)
        if len(calls) == 100:
            raise full
        write_png(*args, **options)  # type: ignore[arg-type]

    with patch(f"{DATA}.write_png", fills):
        code, err = exported(run, tmp_path / "out")
    assert (code, "free some space, then the same command goes on" in err) == (1, True), err
    assert_resumed(run, whole, tmp_path / "out", asked)


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError(),
        MemoryOutError("no memory for a batch of 8"),
        RuntimeError("CUDA error: unspecified launch failure"),
        OSError(24, os.strerror(24)),
    ],
    ids=["memory", "batch", "device", "files"],
)
def test_so_does_any_fault_of_the_machine(
    run: RunDir, whole: dict[str, bytes], tmp_path: Path, asked: list[int], fault: Exception
) -> None:
    generate, calls = Renderer.generate, []

    def fails(self: Renderer, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        calls.append(seeds)
        if len(calls) == 4:
            raise fault
        return generate(self, draw, seeds)

    with patch.object(Renderer, "generate", fails):
        code, err = exported(run, tmp_path / "out")
    assert (code, "then the same command goes on" in err) == (1, True), err
    assert_resumed(run, whole, tmp_path / "out", asked)


def test_of_one_that_the_generator_fails_nothing_is_left(run: RunDir, tmp_path: Path) -> None:
    with patch.object(Renderer, "generate", side_effect=RuntimeError("no such prompt")):
        assert exported(run, tmp_path / "out")[0] == 1
    assert [*tmp_path.iterdir()] == []


def test_what_a_kill_has_left_of_an_outdated_export_goes_with_the_next(
    run: RunDir, whole: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.png").touch()
    users = tmp_path / ".out.old"  # a name like ours, beside OUT
    shutil.copytree(tmp_path / "mine", users)
    for name in ("out", "linked"):
        old = tmp_path / f".{name}.part" / "old"
        old.parent.mkdir()
        if name == "out":
            shutil.copytree(tmp_path / "mine", old)
        else:
            old.symlink_to(tmp_path / "mine")
        assert exported(run, tmp_path / name)[0] == 0
        assert tree(tmp_path / name) == whole
        assert not old.parent.exists()
    assert [path.name for path in users.iterdir()] == ["a.png"]
    take_away(tmp_path / "out")
    assert [path.name for path in users.iterdir()] == ["a.png"]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.part").exists()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["a.png"]


@pytest.mark.parametrize("mode", [0o777, 0o720])
def test_a_part_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever shares the folder beside it could put other images, or a link, in its place."""
    run = painted_run(tmp_path / "run", ["frog"])
    part = tmp_path / ".out.part"
    part.mkdir()
    part.chmod(mode)
    with pytest.raises(ConfigError, match="is open to others, where an export is to grow"):
        export(run.path, tmp_path / "out", per_class=2, trust=True)
    part.rmdir()
    export(run.path, tmp_path / "out", per_class=2, trust=True)
