"""The registry: what a config names is found, and what cannot be is refused in one line."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapclose.generators.base import SETTINGS, Generator, generate_all
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.folder import FolderGenerator
from gapclose.generators.images import NAN, ONE_COLOUR, ImageBatch
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import check_generator, make_generator, settings_of

OWN = """
class Own:
    id = "own:1"
    revision = None
    license = None
    source_type = "digitalCreation"

    def __init__(self, *, speed=1):
        self.speed = speed

    def check(self):
        if self.speed < 1:
            raise ValueError("too slow")

    def generate(self, draw, seeds):
        raise NotImplementedError
"""


def test_kinds_are_made(tiny: Path, frogs: Path) -> None:
    spec = {"kind": "diffusers", "model": str(tiny), "batch_size": 4, "size": [16, 16]}
    assert isinstance(make_generator(spec), DiffusersGenerator)
    assert isinstance(make_generator({"kind": "folder", "path": str(frogs)}), FolderGenerator)
    check_generator(spec)
    check_generator({"kind": "folder", "path": str(frogs)})


def test_a_generator_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_generator.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    own: Any = make_generator({"kind": "own_generator:Own", "speed": 3})
    assert isinstance(own, Generator)
    assert own.speed == 3
    check_generator({"kind": "own_generator:Own"})
    with pytest.raises(ValueError, match="too slow"):
        check_generator({"kind": "own_generator:Own", "speed": 0})
    with pytest.raises(GeneratorConfigError, match="did you mean 'speed'"):
        check_generator({"kind": "own_generator:Own", "sped": 0})


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, r"generator\.kind: must be"),
        ({"kind": "difusers"}, "did you mean 'diffusers'"),
        ({"kind": "no.such.module:X"}, "cannot be loaded"),
        ({"kind": "json:NoSuchClass"}, "cannot be loaded"),
        ({"kind": "json:__doc__"}, "is of type str; name a class or a function"),
        ({"kind": "this:s"}, "is of type str; name a class or a function"),
        ({"kind": "builtins:dict"}, "cannot be loaded: ValueError"),
        ({"kind": "diffusers"}, r"generator\.model: missing"),
        ({"kind": "folder"}, r"generator\.path: missing"),
        ({"kind": "diffusers", "model": "pond", "dtpye": "auto"}, "did you mean 'dtype'"),
        ({"kind": "diffusers", "model": "/no/such/folder"}, "neither a folder nor a hub id"),
        ({"kind": "diffusers", "model": "stable"}, "neither a folder nor a hub id"),
        ({"kind": "folder", "path": "/no/such/folder"}, "no folder /no/such/folder"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(GeneratorConfigError, match=says) as refusal:
        check_generator(spec)
    assert "\n" not in str(refusal.value)


RETURNING = """
import numpy as np
from PIL import Image
from gapclose.generators.images import ImageBatch

class Own:
    id = "own:1"
    revision = None
    license = None
    source_type = "digitalCreation"

    def generate(self, draw, seeds):
        pixels = [np.random.default_rng(seed).integers(0, 256, (8, 8, 3)) for seed in seeds]
        images = tuple(p.astype(np.uint8) for p in pixels)
        seeds, none = tuple(seeds), (None,) * len(seeds)
        {body}
"""
WRONG = {
    "None": ("return None", "got None"),
    "a list of arrays": ("return list(images)", "got a list of 1 ndarray"),
    "a batch of nothing": ("return ImageBatch(images=(), seeds=(), invalid=())", "0 images for 1"),
    "other seeds": ("return ImageBatch(images=images, seeds=(7,), invalid=none)", "seeds 7 for 0"),
    "floats": (
        "return ImageBatch(images=(images[0] / 255,), seeds=seeds, invalid=none)",
        "raised ValueError: not a uint8 RGB image: float64 (8, 8, 3) (own.py, line 16)",
    ),
    "PIL images": (
        "return ImageBatch(images=(Image.fromarray(images[0]),), seeds=seeds, invalid=none)",
        "raised AttributeError",
    ),
    "no pixels": (
        "return ImageBatch(images=(images[0][:0],), seeds=seeds, invalid=none)",
        "an image without pixels",
    ),
    "an exception": ("return {}['light']", "raised KeyError: 'light' (own.py, line 16)"),
}


def own(folder: Path, body: str) -> dict[str, Any]:
    file = folder / "own.py"
    file.write_text(RETURNING.replace("{body}", body))
    return {"kind": f"{file}:Own"}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_generator_of_ones_own_returns_is_looked_at_first(
    case: str, tmp_path: Path
) -> None:
    body, says = WRONG[case]
    spec = own(tmp_path, body)
    check_generator(spec)  # draws nothing yet
    with pytest.raises(GeneratorConfigError, match=re.escape(says)) as refusal:
        check_generator(spec, draw=Draw(prompt="a frog"))
    for words in ("generator.kind: own:1: ", "return ImageBatch(images=..., seeds=...", "uint8"):
        assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    # The same later on fails a trial, with the same words.
    with pytest.raises(GenerationError, match=re.escape(says)):
        generate_all(make_generator(spec), [(Draw(prompt="a frog"), [0])])


def test_a_right_one_may_fail_its_first_draw(tmp_path: Path) -> None:
    check_generator(
        own(tmp_path, "return ImageBatch(images=images, seeds=seeds, invalid=none)"),
        draw=Draw(prompt="a frog"),
    )
    (tmp_path / "b").mkdir()
    fails = "from gapclose.generators.errors import GenerationError as E; raise E('busy')"
    check_generator(own(tmp_path / "b", fails), draw=Draw(prompt="a frog"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("    license = None\n", "Own has no license; a generator has id, revision, license"),
        ('"digitalCreation"', "source_type is 'photo'; say one of trainedAlgorithmicMedia"),
    ],
)
def test_the_attributes_of_a_generator_are_looked_at_too(
    line: str, says: str, tmp_path: Path
) -> None:
    spec = own(tmp_path, "return ImageBatch(images=images, seeds=seeds, invalid=none)")
    file = tmp_path / "own.py"
    file.write_text(file.read_text().replace(line, "" if line.endswith("\n") else '"photo"'))
    with pytest.raises(GeneratorConfigError, match=re.escape(says)):
        check_generator(spec, draw=Draw(prompt="a frog"))


def test_images_of_one_colour_are_marked_for_everybody(tmp_path: Path) -> None:
    body = (
        "images = tuple(np.full((8, 8, 3), 7 * (s % 2), np.uint8) if s < 4 else i "
        "for s, i in zip(seeds, images)); "
        "return ImageBatch(images=images, seeds=seeds, invalid=('nan', *none[1:]))"
    )
    (batch,) = generate_all(make_generator(own(tmp_path, body)), [(Draw(prompt=""), range(6))])
    assert batch.invalid == (NAN, ONE_COLOUR, ONE_COLOUR, ONE_COLOUR, None, None)
    assert batch.valid().seeds == (4, 5)


def test_batches_of_several_draws_are_counted() -> None:
    class Short:
        id, revision, license, source_type = "short", None, None, "digitalCreation"

        def generate(self, draw: Draw, seeds: Any) -> Any: ...

        def generate_all(self, jobs: Any) -> Any:
            return [None] * (len(jobs) - 1)

    with pytest.raises(GenerationError, match=r"one ImageBatch per job, 2 here; got a list of 1"):
        generate_all(Short(), [(Draw(prompt="a"), [0]), (Draw(prompt="b"), [1])])


def test_generating_asks_for_no_revision() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)

    class Weighty:
        id, license, source_type = "weighty", None, "digitalCreation"

        @property
        def revision(self) -> str:
            raise AssertionError("all weights were read for one image")

        def generate(self, draw: Draw, seeds: Any) -> ImageBatch:
            return ImageBatch(images=(image,), seeds=(0,), invalid=(None,))

    assert len(generate_all(Weighty(), [(Draw(prompt=""), [0])])) == 1


def test_files_of_one_name_do_not_meet_and_shadow_nothing(tmp_path: Path) -> None:
    text = "import dataclasses\n@dataclasses.dataclass\nclass Own:\n    speed: int = {}\n"
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "json.py").write_text(text.format(number))
    made: list[Any] = [
        make_generator({"kind": f"{tmp_path / str(number) / 'json.py'}:Own"}) for number in (1, 2)
    ]
    assert [one.speed for one in made] == [1, 2]
    assert Path(sys.modules["json"].__file__ or "").parent.name == "json"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def Own(: pass", "SyntaxError"),
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("1 / 0", "ZeroDivisionError"),
        ("class Own:\n    def __init__(self): raise OSError('no Blender')", "OSError: no Blender"),
        ("class Other: pass", "has no attribute 'Own'"),
    ],
)
def test_whatever_the_code_raises_is_one_refusal(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(GeneratorConfigError, match=says):
        check_generator({"kind": f"{tmp_path / 'own.py'}:Own"})


def test_code_that_is_not_found_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(GeneratorConfigError, match=rf"there is no file {tmp_path}/none\.py"):
        check_generator({"kind": f"{tmp_path}/none.py:Own"})
    with pytest.raises(GeneratorConfigError, match="nor in the folder of the config file"):
        check_generator({"kind": "mine.world:Renderer"})
    # One's own package of an installed one's name is not found, and the line says why.
    with pytest.raises(GeneratorConfigError, match=r"numpy is .*numpy\); rename yours"):
        check_generator({"kind": "numpy.world:Renderer"})


KNOBS = """
import numpy as np
from gapclose.generators.images import ImageBatch

class Own:
    id = "own:knobs"
    revision = None
    license = None
    source_type = "digitalCreation"
    {known}

    def generate(self, draw, seeds):
        light = draw.parameters.get("light", 0)
        if light == "off":
            raise ValueError("too dark")
        pixels = [np.random.default_rng([seed, int(light)]).integers(0, 256, (8, 8, 3))
                  for seed in seeds]
        images = tuple(p.astype(np.uint8) for p in pixels)
        return ImageBatch(images=images, seeds=tuple(seeds), invalid=(None,) * len(seeds))
"""
PLAIN = Draw(prompt="a frog", parameters={"light": 1, "ligth": 1})


def knobs(folder: Path, known: str = "") -> dict[str, Any]:
    file = folder / f"knobs{len([*folder.iterdir()])}.py"
    file.write_text(KNOBS.replace("{known}", known))
    return {"kind": f"{file}:Own"}


def varied(**values: Any) -> dict[str, Draw]:
    return {
        name: replace(PLAIN, parameters={**PLAIN.parameters, name: value})
        for name, value in values.items()
    }


def test_an_unknown_parameter_is_refused_by_its_name(tmp_path: Path) -> None:
    spec = knobs(tmp_path, "parameters = ('light', 'tilt')")
    check_generator(spec, draw=PLAIN, variants=varied(light=2))
    with pytest.raises(GeneratorConfigError, match="did you mean light") as refusal:
        check_generator(spec, variants=varied(ligth=2))  # before anything is generated
    assert refusal.value.key == "space.parameters.ligth"
    with pytest.raises(GeneratorConfigError, match="it takes light, tilt"):
        check_generator(spec, variants=varied(zoom=2))
    with pytest.raises(GeneratorConfigError, match="takes no such parameter"):
        check_generator({"kind": "diffusers", "model": "pond"}, variants=varied(light=2))


def test_a_parameter_that_changes_nothing_is_refused_unless_it_is_named(tmp_path: Path) -> None:
    spec = knobs(tmp_path)
    check_generator(spec, draw=PLAIN, variants=varied(light=2))
    with pytest.raises(GeneratorConfigError, match="changes nothing in an image of own:knobs"):
        check_generator(spec, draw=PLAIN, variants=varied(light=2, ligth=2))
    # A fixed one has the baseline's value: whether it does anything is not known.
    check_generator(spec, draw=PLAIN, variants=varied(light=2, ligth=1))
    check_generator(
        knobs(tmp_path, "parameters = ('light', 'ligth')"),
        draw=PLAIN,
        variants=varied(light=2, ligth=2),
    )


def test_a_value_that_gives_no_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(GeneratorConfigError, match=r"'off' gives no image: .*too dark") as refusal:
        check_generator(knobs(tmp_path), draw=PLAIN, variants=varied(ligth=2, light="off"))
    assert refusal.value.key == "space.parameters.light"


def test_settings_are_all_unless_a_generator_says_which(tmp_path: Path) -> None:
    assert settings_of(knobs(tmp_path)) == {*SETTINGS}
    assert settings_of(knobs(tmp_path, "settings = ('negative_prompt',)")) == {"negative_prompt"}
    assert settings_of({"kind": "diffusers", "model": "pond"}) == {*SETTINGS}
