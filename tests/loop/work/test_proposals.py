"""Proposals: what a proposer is told, and what becomes of what it says."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import modes
import pytest
import tiny_language_models
from workshop import Workshop, open_workshop

from gapclose.analysis.language_model import LanguageModel
from gapclose.analysis.proposer import Diagnosis, propose_by_attributes
from gapclose.loop.run.events import PromptsProposed
from gapclose.loop.schedule.actions import AskProposer, ProposeTrial
from gapclose.loop.search.phases import Ask
from gapclose.loop.work.proposals import Proposals, untried

Said = Callable[[Diagnosis], Sequence[str]]


def searched(tmp_path: Path, trials: int = 3) -> Workshop:
    """A run that knows brown alone: its photos are gray, too."""
    shop = open_workshop(tmp_path, slots={"color": ["plain", "brown"]})
    for _ in range(trials):
        proposed = shop.trials.propose(ProposeTrial(cls="frog", settings_trials=0))
        shop.searches.apply(proposed)
        shop.searches.apply(shop.trials.run(proposed))
    return shop


def asked(shop: Workshop, proposer: Said) -> PromptsProposed:
    proposals = Proposals(
        proposer=proposer,
        synthesis=shop.synthesis,
        searches=shop.searches,
        real=shop.real,
        groups={"color": ["brown", "gray", "red"]},
    )
    return proposals.ask(AskProposer(cls="frog"))


def test_what_a_proposer_is_told(tmp_path: Path) -> None:
    shop, told = searched(tmp_path), list[Diagnosis]()

    def proposer(diagnosis: Diagnosis) -> list[str]:
        told.append(diagnosis)
        return []

    before = shop.synthesis.generated
    event = asked(shop, proposer)
    assert shop.synthesis.generated == before  # from images that exist
    assert (event.prompts, event.cls) == ((), "frog")
    (diagnosis,) = told
    assert diagnosis.noun == "frog"
    assert diagnosis.gap == pytest.approx(shop.searches["frog"].state.gap / event.progress.floor)
    assert diagnosis.prompts[0][0] == "a brown frog"
    gaps = {gap.word: (gap.real, gap.synthetic) for gap in diagnosis.attributes}
    assert gaps["gray"][0] == pytest.approx(0.4, abs=0.05)
    assert gaps["gray"][1] < gaps["gray"][0] / 2
    assert len(diagnosis.real) == len(diagnosis.synthetic) == 12
    # The photos furthest from what is made are gray: those after the first 72 of 120.
    furthest = {_number(image) for image in diagnosis.real}
    assert min(furthest) >= 72


def _number(image: Any) -> int:
    """The number that a photo spells, as the workshop wrote it."""
    blocks = image[2::4, 2::4, 0].ravel() > 128
    return sum(int(blocks[11 + i]) << i for i in range(30))


def test_what_it_proposes_comes_first_and_closes_the_gap(tmp_path: Path) -> None:
    shop = searched(tmp_path)
    search = shop.searches["frog"]

    def rule(diagnosis: Diagnosis) -> list[str]:
        return [p.removeprefix("a photo of ") for p in propose_by_attributes(diagnosis)]

    event = asked(shop, rule)
    assert event.prompts == ({"prompt": "a gray frog"},)
    assert event.progress.pending
    proposal = search.propose(Ask(settings_trials=0))
    assert proposal.jobs[0][0].draw.prompt == "a gray frog"
    before = search.state.atoms.gap()
    proposed = shop.trials.propose(ProposeTrial(cls="frog", settings_trials=0))
    shop.searches.apply(proposed)
    shop.trials.run(proposed)
    assert not search.pending
    assert search.state.atoms.gap() < 0.2 * before
    # A prompt that is none of the space's words is no trouble for what comes next.
    for _ in range(4):
        proposed = shop.trials.propose(ProposeTrial(cls="frog", settings_trials=0))
        shop.searches.apply(proposed)
        shop.searches.apply(shop.trials.run(proposed))


def test_what_a_language_model_says_is_tried_first(tmp_path: Path) -> None:
    shop, folder = searched(tmp_path), tmp_path / "llama"
    tiny_language_models.save_llama(
        folder, ["Prompts:\n", "1. a brown frog\n", "2. a {gray} frog\n", "3. a gray frog"]
    )
    event = asked(shop, LanguageModel(f"transformers:{folder}", device="cpu").propose)
    assert event.prompts == ({"prompt": "a {{gray}} frog"}, {"prompt": "a gray frog"})
    proposal = shop.searches["frog"].propose(Ask(settings_trials=0))
    assert proposal.jobs[0][0].draw.prompt == "a {gray} frog"


def test_a_language_model_whose_weights_do_not_fit_is_logged(tmp_path: Path) -> None:
    shop, folder = searched(tmp_path), tmp_path / "llama"
    tiny_language_models.save_llama(folder, ["a gray frog"])
    model = LanguageModel(f"transformers:{folder}", device="cpu")
    (folder / "model.safetensors").write_bytes(b"cut off")
    assert asked(shop, model.propose).prompts == ()
    log = (shop.rundir.path / "errors.log").read_text()
    assert f"proposer 'transformers:{folder}': cannot be loaded: " in log


class UnspeakableError(Exception):
    """An error that fails to say what it is."""

    def __str__(self) -> str:
        raise self


@pytest.mark.parametrize(
    "fault",
    [
        ZeroDivisionError("no\nline \x1b " * 999),
        SystemError("no"),
        SystemExit(3),
        GeneratorExit(),
        UnspeakableError(),
    ],
)
def test_a_proposer_that_fails_costs_nothing_but_its_time(
    tmp_path: Path, fault: BaseException
) -> None:
    shop = searched(tmp_path)

    def proposer(diagnosis: Diagnosis) -> list[str]:
        raise fault

    event = asked(shop, proposer)
    assert event.prompts == ()
    assert event.error is not None
    assert event.error.startswith(type(fault).__name__)
    assert len(event.error) <= 200
    assert event.error.isprintable()
    assert type(fault).__name__ in (shop.rundir.path / "errors.log").read_text()


def test_a_full_disk_is_no_fault_of_the_proposers(tmp_path: Path) -> None:
    def proposer(diagnosis: Diagnosis) -> list[str]:
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(OSError, match="no space"):
        asked(searched(tmp_path), proposer)


def test_only_new_texts_are_tried_and_braces_are_text() -> None:
    search = modes.make_search(modes.mixed({"brown": 1.0}, 60, modes.np.random.default_rng(0)))
    said = ["a brown frog", " a  brown frog ", "", "a {color} frog", "x" * 3000]
    assert untried(search, said) == (
        {"prompt": "a brown frog"},
        {"prompt": "a {{color}} frog"},
    )
    recipe = search.space.recipe({"prompt": "a {{color}} frog"})
    assert recipe.draw.prompt == "a {color} frog"
    assert len(untried(search, [f"a frog, number {i}" for i in range(50)])) == 8


def test_joiners_stay_in_a_prompt_and_what_cannot_be_seen_does_not() -> None:
    search = modes.make_search(modes.mixed({"brown": 1.0}, 60, modes.np.random.default_rng(0)))
    said = ["a \U0001f468\u200d\U0001f469 frog", "a \x1b[31mred\u202e frog", "x" * 10**7]
    assert [words["prompt"] for words in untried(search, said)] == [
        "a \U0001f468\u200d\U0001f469 frog",
        "a [31mred frog",
    ]


def test_a_generator_of_prompts_is_heard_to_some_length() -> None:
    search = modes.make_search(modes.mixed({"brown": 1.0}, 60, modes.np.random.default_rng(0)))
    said = (f"a frog, number {number}" for number in itertools.count())
    assert [words["prompt"] for words in untried(search, said)] == [
        f"a frog, number {number}" for number in range(8)
    ]
    assert next(said) == "a frog, number 1000"


@pytest.mark.parametrize("said", ["a brown frog", b"a frog", [1, 2], None, {"a frog": 1}])
def test_what_is_no_list_of_prompts_is_refused(said: Any) -> None:
    search = modes.make_search(modes.mixed({"brown": 1.0}, 60, modes.np.random.default_rng(0)))
    with pytest.raises(TypeError):
        untried(search, said)
