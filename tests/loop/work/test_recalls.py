"""What two classes' images are worth, on embeddings whose truth is known."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from histories import as_read, evaluation
from modes import WORDS
from safetensors.numpy import load_file, save
from workshop import Speller, SpellingReader, Workshop, open_workshop

from gapclose.analysis.criteria import CRITERIA
from gapclose.analysis.kernel import Kernel
from gapclose.generators.images import ImageBatch, write_pngs
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.run.events import Digests, Event, RecallsMeasured, RunStarted, SessionStarted
from gapclose.loop.run.photo_groups import PhotoGroup
from gapclose.loop.run.state import RunState, apply, fold
from gapclose.loop.schedule.actions import EvaluateFold, ProposeTrial
from gapclose.loop.search.sources import Sources
from gapclose.loop.work.evidence import Evidence
from gapclose.loop.work.real_data import ClassReference
from gapclose.loop.work.recalls import IMAGES, PROMPTS, Recalls

KINDS = {"frog": {"brown": 72, "gray": 48}, "ship": {"red": 72, "blue": 48}}  # photos of a part
NAMES = tuple(KINDS)
TINTS = {
    "plain": (0.85, 1.3, 0.85),
    "brown": (1.25, 1.0, 0.75),
    "gray": (1.0, 1.0, 1.0),
    "red": (1.3, 0.85, 0.85),
    "blue": (0.85, 0.85, 1.3),
}


class Tinter(Speller):
    """Its images have the colour of their word, too: a CNN does not read."""

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        word = next(word for word in WORDS if word in draw.prompt.split())
        batch = super().generate(draw, seeds)
        tinted = tuple((image * np.array(TINTS[word])).astype(np.uint8) for image in batch.images)
        return replace(batch, images=tinted)


def photographed(reference: ClassReference) -> ClassReference:
    """The same files, with pictures of the class's kinds."""
    parts = []
    for number, part in enumerate((reference.tune, *reference.folds)):
        images = [
            image
            for word, n in KINDS[reference.name].items()
            for image in Tinter()
            .generate(Draw(prompt=f"a {word} thing", guidance_scale=5.0), range(n))
            .images
        ]
        order = np.random.default_rng(number).permutation(len(images))
        shuffled = [images[i] for i in order]
        write_pngs(dict(zip(part.paths, shuffled, strict=True)), source_type="digitalCreation")
        parts.append(replace(part, rows=SpellingReader().embed(shuffled)))
    kernel = Kernel.fit(parts[0].rows)
    return replace(reference, tune=parts[0], folds=tuple(parts[1:]), kernel=kernel)


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return new_shop(tmp_path)


def new_shop(path: Path, **space: Any) -> Workshop:
    shop = open_workshop(path, classes=NAMES, folds=1, **space)
    shop.generator = Tinter()
    shop.real = {name: photographed(reference) for name, reference in shop.real.items()}
    shop.reopen()
    return shop


def tried(shop: Workshop, name: str) -> list[Event]:
    """The next trial of a class."""
    proposed = as_read(shop.trials.propose(ProposeTrial(cls=name)))
    shop.searches.apply(proposed)
    return [proposed, as_read(shop.trials.run(proposed))]  # type: ignore[arg-type]


def begun(shop: Workshop, *, trials: int) -> RunState:
    events: list[Event] = [RunStarted(run="a"), SessionStarted(classes=NAMES)]
    for name in NAMES * trials:
        events += tried(shop, name)
    return fold(events)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workshop, RecallsMeasured]:
    """When each class had its baseline alone, whose images are of one kind for both."""
    shop = new_shop(tmp_path_factory.mktemp("shop"))
    event = as_read(shop.recalls.measure(begun(shop, trials=1)))
    assert isinstance(event, RecallsMeasured)
    return shop, event


def test_images_that_are_all_alike_tell_no_class(
    measured: tuple[Workshop, RecallsMeasured],
) -> None:
    _, event = measured
    assert [*event.recalls] == [*NAMES]
    assert event.seconds > 0
    assert all(its.real > 0.9 and its.n == 60 for its in event.recalls.values())
    assert sum(its.synthetic for its in event.recalls.values()) < 1.5


def test_what_is_told_wrong_brings_its_words_first(
    measured: tuple[Workshop, RecallsMeasured],
) -> None:
    shop, event = measured
    asked = {name: prompts for name, prompts in event.prompts.items() if prompts}
    assert asked
    assert event.progress.keys() == asked.keys()
    for name, prompts in asked.items():
        assert len(prompts) <= PROMPTS
        assert {words["color"] for words in prompts} <= KINDS[name].keys()
        assert event.progress[name].pending
        proposed = shop.trials.propose(ProposeTrial(cls=name))
        assert any(words.items() <= proposed.params.items() for words in prompts)


def test_a_session_that_resumes_tries_the_same_prompts_first(
    measured: tuple[Workshop, RecallsMeasured], shop: Workshop
) -> None:
    before, event = measured
    begun(shop, trials=1)
    assert not any(search.pending for search in shop.searches.values())
    shop.searches.apply(event)
    for name, search in shop.searches.items():
        assert search.progress() == before.searches[name].progress()
    assert any(search.pending for search in shop.searches.values())


def test_images_of_all_words_tell_the_classes_and_nothing_comes_first(shop: Workshop) -> None:
    event = shop.recalls.measure(begun(shop, trials=6))
    assert all(its.shortfall < 0.15 for its in event.recalls.values())
    assert not any(event.prompts.values())


RIGHT, WRONG = ([np.full(60, told)] * 2 for told in (True, False))


def measured_anew(
    shop: Workshop, state: RunState, *, told: list[Any], **facts: Any
) -> RecallsMeasured:
    """What comes of classes that stand so and are told so, with real photos all right."""
    for name in NAMES:
        if "prioritized" in facts:
            shop.searches[name].prioritize(facts["prioritized"])
        cls = state.of(name)
        pending = facts.get("pending", cls.progress.pending)
        progress = cls.progress.model_copy(update={"pending": pending})
        prompts = facts.get("prioritized", ())
        cls = replace(cls, progress=progress, prioritized=prompts, asked=bool(prompts))
        state = replace(state, classes={**state.classes, name: cls})
    with patch.object(Recalls, "_told", side_effect=[RIGHT, told]):
        return shop.recalls.measure(state)


def test_what_a_person_prioritized_is_not_pushed_aside(shop: Workshop) -> None:
    state = begun(shop, trials=1)
    red = ({"color": "red"},)
    theirs = measured_anew(shop, state, told=WRONG, pending=True, prioritized=red)
    assert theirs.progress == {}
    tried = measured_anew(shop, state, told=WRONG, pending=False, prioritized=red)
    assert tried.progress.keys() == {*NAMES}


def test_what_was_tried_comes_first_no_more(tmp_path: Path) -> None:
    """Once the first prompts were tried and photos are still told wrong, others come."""
    shop = new_shop(
        tmp_path,
        prompt="a {color} {class}{place}",
        slots={"color": list(WORDS), "place": ["", " here", " there", " now"]},
    )
    state = begun(shop, trials=1)
    once = measured_anew(shop, state, told=WRONG)
    assert all(len(prompts) == PROMPTS for prompts in once.prompts.values())
    state = apply(state, once)
    for name in NAMES * PROMPTS:
        for event in tried(shop, name):
            state = apply(state, event)
    assert not any(shop.searches[name].pending for name in NAMES)
    again = measured_anew(shop, state, told=WRONG)
    for name in NAMES:
        assert again.prompts[name]
        assert not any(words in once.prompts[name] for words in again.prompts[name])
        assert shop.searches[name].pending


def test_what_fails_halfway_changes_no_search(shop: Workshop) -> None:
    state, found = begun(shop, trials=1), [({"color": "gray"},), RuntimeError("memory is out")]
    with patch.object(Recalls, "_prompts", side_effect=found):
        event = measured_anew(shop, state, told=WRONG)
    assert (event.recalls, event.prompts) == ({}, {})
    assert not any(shop.searches[name].pending for name in NAMES)


def test_what_costs_nothing_any_more_has_no_prompt_to_come_first(shop: Workshop) -> None:
    state = begun(shop, trials=1)
    state = apply(state, measured_anew(shop, state, told=WRONG))
    assert all(shop.searches[name].pending for name in NAMES)
    state = apply(state, measured_anew(shop, state, told=RIGHT))
    assert not any(state.of(name).progress.pending for name in NAMES)
    assert not any(shop.searches[name].pending for name in NAMES)


def test_a_confirmed_class_gets_no_prompt_and_loses_those_it_has(shop: Workshop) -> None:
    state = begun(shop, trials=1)
    state = apply(state, measured_anew(shop, state, told=WRONG))
    held = evaluation(confirmed=True)
    state = replace(
        state, classes={n: replace(cls, evaluation=held) for n, cls in state.classes.items()}
    )
    with patch.object(Recalls, "_told", side_effect=[RIGHT, WRONG]):
        event = shop.recalls.measure(state)
    assert event.prompts == dict.fromkeys(NAMES, ())
    assert not any(its.pending for its in event.progress.values())


def test_photos_are_not_taken_in_the_order_of_their_files(shop: Workshop) -> None:
    """Brown frogs come first by name: none of the others would be trained on, or told."""
    kinds = [0] * 72 + [1] * 48
    frog = shop.real["frog"]
    rng = np.random.default_rng(5)
    named = tuple(str(number) for number in rng.permutation(120))
    rows = np.eye(2, dtype=np.float32)[kinds]
    tune = replace(frog.tune, photos=named, rows=rows)
    shop.real["frog"] = replace(frog, tune=tune)
    measuring = shop.recalls
    with patch.object(Recalls, "_told", side_effect=[RIGHT, RIGHT]):
        measuring.measure(begun(shop, trials=1))
    told = measuring._photos["frog"].rows.mean(axis=0)
    assert told == pytest.approx([0.6, 0.4], abs=0.15)


def test_as_many_images_are_trained_on_as_photos(shop: Workshop) -> None:
    state, sizes = begun(shop, trials=1), []

    def told(self: Recalls, images: Any, classifier: Any) -> Any:
        sizes.append({name: len(its) for name, its in images.items()})
        return RIGHT

    for photos in (120, 50):
        for name, reference in shop.real.items():
            shop.real[name] = replace(reference, tune=reference.tune.only(range(photos)))
        with patch.object(Recalls, "_told", told):
            shop.recalls.measure(state)
    assert sizes == [dict.fromkeys(NAMES, n) for n in (60, 60, 25, 25)]


def test_a_recipe_with_few_images_has_its_share_all_the_same(shop: Workshop) -> None:
    begun(shop, trials=3)
    search = shop.searches["frog"]
    counts = [count for _, _, count in search.shares(60)]
    assert sum(counts) == 60
    assert len(shop.recalls._made("frog")) == 60
    assert any(len(seeds) < count for _, seeds, count in search.shares(600))
    assert len(shop.recalls._made("frog")) == 60


def test_where_it_cannot_be_measured_the_search_goes_on(shop: Workshop) -> None:
    state = begun(shop, trials=1)
    with patch.object(Recalls, "_told", side_effect=RuntimeError("memory is out")):
        assert shop.recalls.measure(state).recalls == {}
    assert "memory is out" in (shop.rundir.path / "errors.log").read_text()
    full = OSError(errno.ENOSPC, "no space left on device")
    with patch.object(Recalls, "_told", side_effect=full), pytest.raises(OSError, match="space"):
        shop.recalls.measure(state)
    out = MemoryError()
    with patch.object(Recalls, "_told", side_effect=out), pytest.raises(MemoryError):
        shop.recalls.measure(state)


# ------------------------------------------------------------------------------- verdicts


def evaluated(shop: Workshop, state: RunState) -> RunState:
    for name in NAMES:
        search = shop.searches[name]
        opened = shop.confirmation.open(
            EvaluateFold(cls=name, fold=0, early=False), state.of(name), search
        )
        state = apply(state, as_read(opened))
        state = apply(state, as_read(shop.confirmation.evaluate(opened, search)))
    return state


def test_a_run_for_the_gap_asks_no_neighbour(shop: Workshop) -> None:
    state = evaluated(shop, begun(shop, trials=1))
    told = shop.recalls.judge(state, CRITERIA)
    assert [its.recall for its in told.verdicts.values()] == [None, None]


def test_a_run_for_worth_is_judged_by_neighbours_of_unseen_photos(shop: Workshop) -> None:
    state = apply(begun(shop, trials=1), RecallsMeasured(recalls={}))
    told = shop.recalls.judge(evaluated(shop, state), CRITERIA)
    found = {name: its.recall for name, its in told.verdicts.items()}
    assert all(its is not None and its.n == 120 and its.real > 0.95 for its in found.values())
    assert sum(its.synthetic for its in found.values() if its) < 1.5  # plain images tell none


def noted(state: RunState, name: str, digests: Digests) -> RunState:
    """The state of a journal in which a fold's evaluation names these."""
    cls = state.of(name)
    assert cls.evaluation is not None
    result = cls.evaluation.result.model_copy(update={"digests": {"tuned": digests}})
    evaluation = replace(cls.evaluation, result=result)
    return replace(state, classes={**state.classes, name: replace(cls, evaluation=evaluation)})


def judged(shop: Workshop) -> RunState:
    """Evaluations that a judge has seen."""
    state = apply(begun(shop, trials=1), RecallsMeasured(recalls={}))
    state = evaluated(shop, state)
    for name in NAMES:  # a judge that tells the classes apart by their images
        rows = np.zeros((120, 2), dtype=np.float32)
        rows[:, NAMES.index(name)] = 1.0
        folds = tuple(replace(part, judge_rows={"one": rows}) for part in shop.real[name].folds)
        shop.real[name] = replace(shop.real[name], folds=folds)
        images = shop.evidence.fold(name, 0, "tuned")
        kept = shop.evidence.keep_fold(name, 0, "tuned", images, [rows[: len(images.seeds)]])
        state = noted(state, name, kept)
    return state


def test_the_judges_embeddings_are_the_ones_that_are_asked(shop: Workshop) -> None:
    told = shop.recalls.judge(judged(shop), CRITERIA)
    assert [its.recall.synthetic for its in told.verdicts.values() if its.recall] == [1.0, 1.0]


@pytest.mark.parametrize("harm", ["gone", "another"])
def test_where_a_class_has_lost_them_all_are_asked_of_the_tuning_embedder(
    shop: Workshop, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = judged(shop)
    with patch.object(Evidence, "judge_rows", return_value=()):
        plain = shop.recalls.judge(state, CRITERIA)
    caplog.clear()
    file = shop.rundir.embeddings_path("frog-confirm-0-tuned")
    if harm == "gone":
        file.unlink()
    else:
        arrays = load_file(file)
        file.write_bytes(save(arrays | {"judge": -arrays["judge"]}))
    told = shop.recalls.judge(state, CRITERIA)
    assert caplog.records[0].message.startswith("frog: the judge's embeddings of fold 0 are gone")
    assert all(its.recall is not None for its in told.verdicts.values())
    assert {name: its.recall for name, its in told.verdicts.items()} == {
        name: its.recall for name, its in plain.verdicts.items()
    }


@pytest.mark.parametrize("spared", [15, 30, 60])
def test_photos_that_images_were_made_from_are_not_told(shop: Workshop, spared: int) -> None:
    """All but `spared` of the frogs that are told are sources, and those alone are told right."""
    state, search = begun(shop, trials=1), shop.searches["frog"]
    photos = shop.real["frog"].tune.photos
    places = sorted(range(len(photos)), key=photos.__getitem__)[IMAGES:]
    assert len(places) == 60
    used = frozenset(photos[place] for place in places[spared:])
    everything = PhotoGroup(cls="frog", name="all", captions=dict.fromkeys(used or photos[:1], ""))
    search.sources = Sources(
        groups={everything.digest: everything},
        rows={photo: row for row, photo in enumerate(photos)},
    )
    ours = np.array([photos[place] in used for place in places])
    draw = Draw(prompt="a brown frog", guidance_scale=5.0, photos=everything.digest)
    jobs = [(Recipe(draw=draw, camera=Camera()), tuple(range(1000)))]
    with (
        patch.object(type(search), "sample", return_value=jobs if used else []),
        patch.object(Recalls, "_told", side_effect=[RIGHT, [ours, RIGHT[0]]]),
    ):
        event = shop.recalls.measure(state)
    assert "ship" in event.recalls
    recall = event.recalls["frog"]
    if spared < 20:  # too few: all are told
        assert (recall.synthetic, recall.n) == (0.75, 60)
    else:
        assert (recall.synthetic, recall.n) == (0.0, spared)
        assert event.prompts["frog"]
