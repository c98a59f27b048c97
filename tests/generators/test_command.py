"""Programs as generators: in any language, however long they live, whatever they do wrong."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import turntable

from gapclose.generators.command import CommandGenerator
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import check_generator
from gapclose.generators.testing import GeneratorContract, Make

PROGRAM = Path(turntable.__file__).with_name("turntable_program.py")
OWN = {"light": 45.0, "material": "steel", "count": 1, "tilt": 20.0}
BALL = Draw(prompt="a ball", cls="ball", noun="ball", parameters=OWN)


def program(how: str = "", **options: Any) -> CommandGenerator:
    return CommandGenerator([sys.executable, str(PROGRAM), how], **options)


@pytest.fixture(scope="module")
def one() -> Iterator[CommandGenerator]:
    """One that stays alive serves all tests but those of several."""
    with contextlib.closing(program(batch_size=4)) as generator:
        yield generator


class TestProgram(GeneratorContract):
    @pytest.fixture
    def generator(self, one: CommandGenerator) -> CommandGenerator:
        return one

    @pytest.fixture
    def make(self) -> Make:
        return lambda: program(batch_size=4)

    @pytest.fixture
    def draws(self) -> Sequence[Draw]:
        cube = Draw(prompt="a cube", cls="cube", noun="cube", parameters=OWN)
        lit = Draw(prompt="a ball", cls="ball", noun="ball", parameters={**OWN, "light": 90.0})
        return [BALL, cube, lit]


def test_it_draws_what_the_program_draws_and_keeps_it_alive(tmp_path: Path) -> None:
    with contextlib.closing(program()) as generator:
        generator.keep_log(tmp_path / "log")
        batch = generator.generate(BALL, [3, 7])
        first = alive(generator)
        for image, seed in zip(batch.images, (3, 7), strict=True):
            assert np.array_equal(image, turntable.render("ball", OWN, seed))
        generator.generate(BALL, range(20))
        assert alive(generator) == first
        log = (tmp_path / "log").read_text()
        assert log.count("ready") == 1
        assert log.count("rendering 8 images") == 2, "a job has at most eight images"
    assert not is_alive(first)


def test_a_log_is_no_link_and_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gapclose.generators.command._MOST_LOGGED", 20)
    (tmp_path / "other").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    with contextlib.closing(program()) as generator:
        generator.keep_log(tmp_path / "link")
        generator.generate(BALL, [1])
        generator.keep_log(tmp_path / "a.log")
        for seed in range(9):
            generator.generate(BALL, [seed])
    assert (tmp_path / "other").read_text() == "mine"
    assert (tmp_path / "a.log").stat().st_size < 60
    assert (tmp_path / "a.old").exists()


def test_a_size_is_asked_for_and_has_to_be_met() -> None:
    with contextlib.closing(program(size=[40, 24])) as generator:
        assert generator.generate(BALL, [1]).images[0].shape == (24, 40, 3)
    with (
        contextlib.closing(program("small", size=16)) as generator,
        pytest.raises(GenerationError, match=r"0\.png has 8 x 8 pixels, not 16 x 16"),
    ):
        generator.generate(BALL, [1])


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("killed", "was ended by signal 9; it said last: .*rendering 2 images"),
        ("dies", "ended with exit code 3; it said last: .*out of paint"),
        ("few", r"no image 1\.png in its folder, which holds 1 files"),
        ("says", r"command:turntable_program\.py: no such scene"),
        ("link", r"0\.png cannot be read"),
        ("text", r"0\.png cannot be read"),
        ("bomb", r"0\.png cannot be read"),
        ("removes", "the folder of its images is gone"),
    ],
)
def test_what_goes_wrong_is_one_line_and_the_next_job_is_done(how: str, says: str) -> None:
    with contextlib.closing(program(how)) as generator:
        for _ in range(2):
            with pytest.raises(GenerationError, match=says) as told:
                generator.generate(BALL, [3, 4])
            assert len(str(told.value).splitlines()) == 1
            assert len(str(told.value)) < 1000


@pytest.mark.parametrize("how", ["hangs", "garbage", "another"])
def test_one_that_does_not_answer_is_ended(how: str) -> None:
    with contextlib.closing(program(how, timeout=3)) as generator:
        with pytest.raises(GenerationError, match="has not answered for 3 s, and was ended"):
            generator.generate(BALL, [3, 4])
        assert alive(generator) is None


def test_what_a_program_starts_ends_with_it(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/pid; wait"
    generator = CommandGenerator(["sh", "-c", script], timeout=1)
    with pytest.raises(GenerationError, match="sh has not answered for 1 s"):
        generator.generate(BALL, [1])
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_one_that_leaves_something_behind_is_not_waited_for(tmp_path: Path) -> None:
    script = "read line; sleep 600 & exit 5"
    started = time.monotonic()
    with pytest.raises(GenerationError, match="sh ended with exit code 5"):
        CommandGenerator(["sh", "-c", script], timeout=60).generate(BALL, [1])
    assert time.monotonic() - started < 30


def test_a_program_may_end_after_each_job_or_read_its_input_to_the_end() -> None:
    plain = program().generate(BALL, [1, 2, 3]).images
    for generator in (program("once", batch_size=2), program(once=True, batch_size=2)):
        with contextlib.closing(generator):
            for one, other in zip(plain, generator.generate(BALL, [1, 2, 3]).images, strict=True):
                assert np.array_equal(one, other)


SHELL = r"""
# Writes images of 8 x 8 pixels in a colour of seed and light, as BMP without compression.
while read -r line; do
  printf '%s\n' "$line" | sed 's/{"path"/\n&/g' | grep '^{"path"' | while read -r image; do
    field() { printf '%s' "$image" | sed "s/.*\"$1\": \"*\([^],}\"]*\).*/\1/"; }
    path=$(field path); seed=$(field seed); light=$(field light)
    {
      printf 'BM\366\0\0\0\0\0\0\0\066\0\0\0\050\0\0\0\010\0\0\0\010\0\0\0\001\0\030\0'
      printf '\0\0\0\0\300\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
      for i in $(seq 64); do
        printf "\\$(printf %o $(( (seed * 31 + i * 3) % 256 )))"
        printf "\\$(printf %o ${light%.*})\\$(printf %o $(( i * 3 )))"
      done
    } > "${path%.png}.bmp"
  done
  printf '{"job": %s}\n' "$(printf '%s' "$line" | sed 's/.*"job": \([0-9]*\).*/\1/')"
done
"""


def test_a_program_in_another_language(tmp_path: Path) -> None:
    (tmp_path / "render.sh").write_text(SHELL)
    draws = [Draw(prompt="x", cls="x", parameters={"light": light}) for light in (40.0, 200.0)]
    with contextlib.closing(CommandGenerator(["sh", str(tmp_path / "render.sh")])) as generator:
        assert generator.id == "command:render.sh"
        dim, bright = (generator.generate(draw, [5, 6]) for draw in draws)
    assert dim.images[0].shape == (8, 8, 3)
    assert {int(image[..., 1].max()) for image in dim.images} == {40}
    assert {int(image[..., 1].max()) for image in bright.images} == {200}
    assert not np.array_equal(dim.images[0], dim.images[1])


C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int n, char **args) {
    FILE *job = fopen(args[n - 1], "r");
    static char text[65536];
    text[fread(text, 1, sizeof text - 1, job)] = 0;
    for (char *at = text; (at = strstr(at, "\"path\": \"")); at++) {
        char path[4096] = {0};
        sscanf(at + 9, "%4095[^\"]", path);
        long number = strtol(strstr(at, "\"seed\": ") + 8, NULL, 10);
        FILE *file = fopen(path, "wb");
        unsigned char head[54] = {'B', 'M', 102, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40};
        head[18] = head[22] = 4, head[26] = 1, head[28] = 24, head[34] = 48;
        fwrite(head, 1, 54, file);
        for (int i = 0; i < 48; i++) fputc((number * 7 + i * 5) % 256, file);
        fclose(file);
    }
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")
def test_a_program_that_is_given_a_file(tmp_path: Path) -> None:
    (tmp_path / "render.c").write_text(C)
    subprocess.run(["cc", "-o", tmp_path / "render", tmp_path / "render.c"], check=True)
    generator = CommandGenerator([str(tmp_path / "render"), "--job", "{job}"], batch_size=2)
    batch = generator.generate(BALL, [10, 11, 12])
    assert [int(image[-1, 0, 0]) for image in batch.images] == [
        (seed * 7 + 10) % 256 for seed in (10, 11, 12)
    ]


def test_what_it_knows_is_believed_and_the_rest_refused() -> None:
    spec = {"kind": "command", "run": [sys.executable, str(PROGRAM), "knows"]}
    lit = Draw(prompt="a ball", cls="ball", parameters={**OWN, "light": 90.0})
    check_generator(spec, draw=BALL, variants={"light": lit})
    strange = Draw(prompt="a ball", cls="ball", parameters={**OWN, "lite": 90.0})
    with pytest.raises(GeneratorConfigError, match="did you mean light") as told:
        check_generator(spec, draw=BALL, variants={"lite": strange})
    assert told.value.key == "space.parameters.lite"
    silent = {"kind": "command", "run": [sys.executable, str(PROGRAM)]}
    with pytest.raises(GeneratorConfigError, match="changes nothing"):
        check_generator(silent, draw=BALL, variants={"lite": strange})
    named = {**silent, "parameters": ["light"]}
    with pytest.raises(GeneratorConfigError, match="takes no such parameter"):
        check_generator(named, variants={"lite": strange})


def test_images_that_it_marks_are_not_scored() -> None:
    with contextlib.closing(program("marks")) as generator:
        assert generator.generate(BALL, [3, 4]).invalid == ("clipped", None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"run": []}, "generator.run: name a program"),
        ({"run": ["no-such-program"]}, "generator.run: there is no program no-such-program"),
        ({"run": ["sh"], "folder": "/no/such"}, "generator.folder: no folder /no/such"),
        ({"run": ["sh"], "files": ["/no/such"]}, "generator.files: no file /no/such"),
        ({"run": ["sh"], "size": 0}, "generator.size"),
        ({"run": ["sh"], "timeout": 0}, "generator.timeout"),
        ({"run": ["sh"], "batch_size": 0}, "generator.batch_size"),
        ({"run": ["sh"], "source_type": "photo"}, "generator.source_type"),
        ({}, "generator.run: missing"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(GeneratorConfigError) as told:
        check_generator({"kind": "command", **options})
    assert says in str(told.value)


def test_its_revision_is_what_it_runs(tmp_path: Path) -> None:
    def revision(text: str, *args: str, **options: Any) -> str | None:
        (tmp_path / "scene.py").write_text(text)
        return CommandGenerator(["py", str(tmp_path / "scene.py"), *args], **options).revision

    texture = tmp_path / "wood.png"
    texture.write_bytes(b"1")
    plain = revision("a")
    assert plain == revision("a")
    with_files = revision("a", files=[texture])
    texture.write_bytes(b"2")
    others = {revision("b"), revision("a", "-x"), with_files, revision("a", files=[texture])}
    assert len(others | {plain}) == 5
    assert revision("a", revision="1.2") == "1.2"


def test_a_forgotten_generator_ends_its_program() -> None:
    generator = program()
    generator.generate(BALL, [1])
    number = alive(generator)
    assert number is not None
    del generator
    gc.collect()
    assert not is_alive(number)


def alive(generator: CommandGenerator) -> int | None:
    """The process of a generator's program."""
    running: list[Any] = generator._running
    return running[0]._process.pid if running and running[0].is_alive else None


def is_alive(number: int | None) -> bool:
    assert number is not None
    for _ in range(50):
        try:
            os.kill(number, 0)
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return False
        if state == "Z":
            return False
        time.sleep(0.1)
    return True


def test_the_job_is_what_the_page_says(tmp_path: Path) -> None:
    script = f'read line; echo "$line" > {tmp_path}/job; exit 0'
    with pytest.raises(GenerationError, match=r"no image 0\.png"):
        CommandGenerator(["sh", "-c", script], size=64).generate(BALL, [5, 9])
    job = json.loads((tmp_path / "job").read_text())
    paths = [Path(image.pop("path")) for image in job["images"]]
    told = {"class": "ball", "noun": "ball", "prompt": "a ball", "parameters": OWN}
    images = [{**told, "seed": seed, "size": [64, 64]} for seed in (5, 9)]
    assert job == {"job": 1, "images": images}
    assert [path.name for path in paths] == ["0.png", "1.png"]
    assert not paths[0].parent.exists(), "nothing is left"


def test_several_draws_share_a_batch(tmp_path: Path) -> None:
    lit = Draw(prompt="a ball", cls="ball", parameters={**OWN, "light": 90.0})
    with contextlib.closing(program()) as generator:
        generator.keep_log(tmp_path / "log")
        one, other = generator.generate_all([(BALL, [1, 2]), (lit, [2, 3])])
    assert (tmp_path / "log").read_text().count("rendering 4 images") == 1
    assert np.array_equal(one.images[1], turntable.render("ball", OWN, 2))
    assert np.array_equal(other.images[0], turntable.render("ball", {**OWN, "light": 90.0}, 2))
