"""Grouping photos: which tune photos make one recipe, and what their captions say."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import modes
import numpy as np
import pytest
from PIL import Image
from tiny_captioners import save_blip

from gapclose.analysis.errors import CaptionerError, RealDataError
from gapclose.analysis.image_folder import ImageSet, scan
from gapclose.analysis.kernel import Kernel
from gapclose.generators.pond.renderer import real_photos
from gapclose.loop.config.reading import parse_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.errors import ConfigError, RunDamagedError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import Notice, WarningRaised
from gapclose.loop.run.photo_groups import ALL_PHOTOS, read_group
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.run.state import fold
from gapclose.loop.work.photo_groups import (
    captions_by_words,
    check_captions,
    group_photos,
    open_groups,
)
from gapclose.loop.work.real_data import ClassReference, Fold

SILENT = SilentReporter()
HALVES = {"brown": 0.5, "gray": 0.5}


class Warned(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def tell(self, notice: Notice) -> None:
        if isinstance(notice, WarningRaised):
            self.said.append(notice.message)


def photos(n: int = 100, shares: dict[str, float] = HALVES) -> Fold:
    rows = modes.mixed(shares, n, np.random.default_rng(0))
    return Fold(
        paths=tuple(Path(f"{i}.png") for i in range(n)),
        photos=tuple(f"{i:016x}" for i in range(n)),
        rows=rows,
    )


def reference(tune: Fold) -> ClassReference:
    kernel = Kernel.fit(tune.rows)
    held = Fold(paths=(Path("held.png"),), photos=("held",), rows=tune.rows[:1])
    return ClassReference(name="frog", tune=tune, folds=(held,), kernel=kernel)


def config(**space: Any) -> RunConfig:
    words = {"prompt": "a {color} frog", "slots": {"color": list(modes.WORDS)}}
    return parse_config(
        {
            "real": {"path": "nowhere"},
            "classes": ["frog"],
            "generator": {"kind": "modes:Modes"},
            "embedder": "pond",
            "space": words | space,
        }
    )


def grouped(
    fold_: Fold, captions: Sequence[str | None] | None = None, reporter: Any = SILENT
) -> dict[str, dict[str, str | None]]:
    groups = group_photos("frog", fold_, captions, seed=0, reporter=reporter)
    return {group.name: dict(group.captions) for group in groups}


def test_all_photos_come_first_and_the_groups_share_them_out() -> None:
    tune = photos()
    found = grouped(tune)
    assert [*found] == [ALL_PHOTOS, "group 1", "group 2", "group 3", "group 4"]
    assert [*found[ALL_PHOTOS]] == [*tune.photos]
    shared = [photo for name in [*found][1:] for photo in found[name]]
    assert sorted(shared) == sorted(tune.photos)
    sizes = [len(found[name]) for name in [*found][1:]]
    assert sizes == sorted(sizes, reverse=True)


def test_photos_of_a_group_are_alike() -> None:
    found = grouped(photos())
    for name in [*found][1:]:
        words = {int(photo, 16) < 50 for photo in found[name]}  # brown come before gray
        assert len(words) == 1, f"{name} holds both colours"


def test_few_photos_are_one_group() -> None:
    assert [*grouped(photos(40))] == [ALL_PHOTOS]
    assert [*grouped(photos(50))] == [ALL_PHOTOS, "group 1", "group 2"]


def test_equal_photos_are_one_group() -> None:
    tune = photos()
    same = Fold(
        paths=tune.paths,
        photos=tune.photos,
        rows=np.repeat(tune.rows[:1], len(tune), axis=0),
    )
    with pytest.warns(Warning, match="distinct clusters"):
        assert [*grouped(same)] == [ALL_PHOTOS]


def test_photos_without_a_caption_make_no_prompt_and_are_counted() -> None:
    captions = [None if i % 4 == 0 else f"frog {i}" for i in range(100)]
    reporter = Warned()
    found = grouped(photos(), captions, reporter)
    assert len(found[ALL_PHOTOS]) == 75
    assert None not in found[ALL_PHOTOS].values()
    assert reporter.said == ["frog: 25 of 100 tune photos have no caption and make no prompts"]


def test_a_class_without_captions_is_refused() -> None:
    with pytest.raises(RealDataError, match=r"frog.*none of its tune photos has a caption"):
        grouped(photos(), [None] * 100)


def test_captions_by_words_keep_their_company() -> None:
    """Brown frogs are here and gray ones there: no caption has a brown frog there."""

    class Company(modes.Reader):
        """Reads the place off the colour's own mode, as photos have the two together."""

        def embed_text(self, texts: Sequence[str]) -> modes.Rows:
            places = {"here": "brown", "there": "gray"}
            return super().embed_text(
                [" ".join(places.get(w, w) for w in text.split()) for text in texts]
            )

    slots = {"color": ["", "brown", "gray", "red"], "place": ["", " here", " there"]}
    space = modes.make_space(prompt="a {color} frog{place}", slots=slots)
    tune = photos()
    captions = captions_by_words(space, tune.rows, Company())
    assert {*captions[:50]} == {"a brown frog here"}
    assert {*captions[50:]} == {"a gray frog there"}


def test_captions_of_words_need_an_eye_for_text_and_words() -> None:
    with pytest.raises(ConfigError, match=r"space\.captions: words are read by a text encoder"):
        captions_by_words(modes.make_space(), photos().rows, modes.Blind())
    space = modes.make_space(prompt="a brown frog", slots={})
    with pytest.raises(ConfigError, match="none of which has two; write one"):
        captions_by_words(space, photos().rows, modes.Reader())


def opened(rundir: RunDir, known: dict[str, Any], tune: Fold, **space: Any) -> Any:
    images = ImageSet(root=Path("nowhere"), files=(), others=())
    return open_groups(
        config(**space),
        rundir,
        known,
        images=images,
        real={"frog": reference(tune)},
        embedder=modes.Reader(),
        reporter=SILENT,
    )


def test_groups_are_kept_before_the_journal_names_them(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    groups, events = opened(run, {}, photos(), captions="words")
    assert [event.cls for event in events] == ["frog"]
    for group in groups["frog"]:
        assert read_group(run, events[0].groups[group.name]) == group
    assert "held" not in groups["frog"][0].captions


def test_a_run_that_goes_on_has_the_groups_it_had(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    groups, events = opened(run, {}, photos(), captions="words")
    known = fold(events).groups
    again, none = opened(run, known, photos(60, {"red": 1.0}), captions="words")
    assert (again, none) == (groups, [])
    (tmp_path / "photo_groups" / f"{groups['frog'][0].digest}.json").unlink()
    with pytest.raises(RunDamagedError, match="missing or damaged"):
        opened(run, known, photos(), captions="words")


def test_pictures_need_no_captions(tmp_path: Path) -> None:
    groups, _ = opened(RunDir(tmp_path), {}, photos(), strength=[0.3, 1.0])
    assert {*groups["frog"][0].captions.values()} == {None}


def test_words_alone_need_no_groups(tmp_path: Path) -> None:
    assert opened(RunDir(tmp_path), {}, photos()) == ({}, [])
    assert not [*tmp_path.iterdir()]


# ----------------------------------------------------------- captions that are given or written


def on_disk(folder: Path, n: int = 60) -> tuple[ImageSet, Fold]:
    """Real photos in a class folder, of which the first half has been given captions."""
    (folder / "frog").mkdir(parents=True)
    lines, paths = [], []
    for number, (scene, photo) in enumerate(real_photos("frog", range(n))):
        path = folder / "frog" / f"{number:03d}.png"
        Image.fromarray(photo).save(path)
        paths.append(path)
        if number < n // 2:
            text = f"a photo of a {scene.color} frog on {scene.background}"
            lines.append(json.dumps({"file_name": path.name, "text": text}))
    (folder / "frog" / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    rows = modes.mixed(HALVES, n, np.random.default_rng(0))
    tune = Fold(paths=tuple(paths), photos=tuple(path.stem for path in paths), rows=rows)
    return scan(folder), tune


def captioned(folder: Path, tune: Fold, images: ImageSet, source: str) -> dict[str, str | None]:
    """The captions that a run's photos get from a source."""
    settings = config(captions=source)
    check_captions(settings, images, ["frog"])
    groups, _ = open_groups(
        settings,
        RunDir(folder / "run"),
        {},
        images=images,
        real={"frog": reference(tune)},
        embedder=modes.Reader(),
        reporter=SILENT,
    )
    return dict(groups["frog"][0].captions)


def test_captions_that_lie_beside_the_photos(tmp_path: Path) -> None:
    images, tune = on_disk(tmp_path / "photos")
    found = captioned(tmp_path, tune, images, "tune")
    truth = [scene for scene, _ in real_photos("frog", range(30))]
    assert [*found.values()] == [
        f"a photo of a {scene.color} frog on {scene.background}" for scene in truth
    ]


def test_captions_of_a_file(tmp_path: Path) -> None:
    images, tune = on_disk(tmp_path / "photos")
    file = tmp_path / "captions.csv"
    file.write_text("file_name,text\nfrog/007.png,a spotted frog\nfrog/011.png,a plain frog\n")
    assert captioned(tmp_path, tune, images, str(file)) == {
        "007": "a spotted frog",
        "011": "a plain frog",
    }


def test_captions_that_a_model_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPCLOSE_CACHE", str(tmp_path / "cache"))
    save_blip(tmp_path / "blip")
    images, tune = on_disk(tmp_path / "photos", n=20)
    source = f"transformers:{tmp_path / 'blip'}"
    found = captioned(tmp_path, tune, images, source)
    assert len(found) >= 5  # random words may be none at all
    assert len({*found.values()}) > 1
    # Another run asks no model: none could be loaded any more.
    with monkeypatch.context() as patched:
        patched.setattr("gapclose.analysis.captioner.TransformersCaptioner.__init__", None)
        assert captioned(tmp_path / "again", tune, images, source) == found


def test_a_file_without_captions_of_a_class_is_refused_before_anything_is_embedded(
    tmp_path: Path,
) -> None:
    images, _ = on_disk(tmp_path / "photos", n=4)
    file = tmp_path / "captions.jsonl"
    file.write_text('{"file_name": "frog/000.png", "text": "a frog"}\n')
    settings = config(captions=str(file))
    check_captions(settings, images, ["frog"])
    with pytest.raises(RealDataError, match=r"class toad: none of its .* add them to .*captions"):
        check_captions(settings, images, ["frog", "toad"])
    name = "x" * 10**6
    file.write_text(f'{{"file_name": "{name}", "text": "a frog"}}\n')
    with pytest.raises(RealDataError, match="names none of the 4 photos") as told:
        check_captions(settings, images, ["frog"])
    assert len(str(told.value)) < 1000
    file.write_text("{")
    with pytest.raises(RealDataError, match="line 1: expected a JSON object"):
        check_captions(settings, images, ["frog"])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("tune", "class toad: none of its photos has a caption"),
        ("/gone/captions.csv", "space.captions: there is no file /gone/captions.csv"),
        ("transformers:/gone/blip", "captioner 'transformers:/gone/blip'"),
        ("words", "none of which has two"),
    ],
)
def test_captions_that_are_not_there_are_refused_before_anything_is_embedded(
    tmp_path: Path, source: str, said: str
) -> None:
    images, _ = on_disk(tmp_path / "photos", n=4)
    slots = {"prompt": "a frog", "slots": {}} if source == "words" else {}
    settings = config(captions=source, **slots)
    with pytest.raises((ConfigError, RealDataError, CaptionerError), match=re.escape(said)):
        check_captions(settings, images, ["toad" if source == "tune" else "frog"])
