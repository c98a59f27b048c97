"""Tagged images: what a person tagged `gap` in the App comes first in the next session.

Real images are what the generator misses; synthetic ones what it makes too many of. The prompts
that would mend that are tried before all others, and the class is confirmed anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from safetensors.numpy import load_file

from gapclose.analysis.embedding import Embedder
from gapclose.loop.run.events import PromptsPrioritized
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.state import FAILURES
from gapclose.loop.run.tags import GAP, pulled_tags
from gapclose.loop.schedule.decide import MOST_FOLDS, View
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.feedback import Selection, feedback_prompts
from gapclose.loop.work.real_data import ClassReference


class Answer(StrEnum):
    """What comes of what a person tagged."""

    FIRST = "first"
    TRIED = "tried"
    FAILED = "failed"
    NO_PHOTOS_LEFT = "no_photos_left"
    NO_FOLDS_LEFT = "no_folds_left"
    ONLY_SEEN_LEFT = "only_seen_left"
    OUT_OF_BUDGET = "out_of_budget"
    NO_WORD = "no_word"


_SAID: Final = {
    Answer.FIRST: "its prompts come first",
    Answer.TRIED: "its prompts were tried",
    Answer.FAILED: "but three failures in a row have stopped the class",
    Answer.NO_PHOTOS_LEFT: (
        "but no photos are left to confirm it with: give more, or start a new run"
    ),
    Answer.NO_FOLDS_LEFT: "but all 3 folds of unseen photos are spent: start a new run",
    Answer.ONLY_SEEN_LEFT: (
        "but only photos that you have seen are left to confirm it with: give more"
    ),
    Answer.OUT_OF_BUDGET: "but the budget is out: give it more",
    Answer.NO_WORD: "but no word that was not tried yet sets them apart",
}


def selections(run: RunDir, gallery: Mapping[str, ClassReference]) -> Iterator[Selection]:
    """The tagged images by class, of those that the run's report shows.

    Args:
        run: Its tags are pulled from the App, if it has a dataset there.
        gallery: The run's classes.
    """
    tagged, path = pulled_tags(run, GAP)[GAP], run.embeddings_path("samples")
    samples = run.samples()
    if not tagged or not path.is_file():
        return
    rows = load_file(path)["embeddings"]
    if len(rows) != len(samples):
        return
    audited = all(row["stage"] != "tuned" for row in samples)
    for cls, real_class in gallery.items():
        own = [i for i, row in enumerate(samples) if row["class"] == cls]
        chosen = [i for i in own if samples[i]["path"] in tagged]
        real = [i for i in chosen if samples[i]["side"] == "real"]
        # An audit shows all photos. Those that are to confirm the class must not steer it.
        steering = [i for i in real if samples[i]["split"] == "tune"] if audited else real
        if 2 * len(real) > len(chosen):
            made = [i for i in own if samples[i]["side"] == "synthetic"]
            # What it makes now; an audit shows the baseline's images alone.
            made = [i for i in made if samples[i]["stage"] == "tuned"] or made
            wanted, unwanted = rows[steering], rows[made]
        else:
            synthetic = [i for i in chosen if i not in real]
            wanted, unwanted = real_class.tune.rows, rows[synthetic]
        if chosen:
            yield Selection(cls=cls, images=len(chosen), wanted=wanted, unwanted=unwanted)


def prioritize(
    selection: Selection, view: View, search: ClassSearch, embedder: Embedder
) -> tuple[Answer, PromptsPrioritized | None]:
    """Whether the prompts that would bring more of some images come first, and which.

    Args:
        selection: What was tagged.
        view: Of the run, whose round has begun.
        search: Of the class.
        embedder: As for `feedback_prompts`.
    """
    name, cls = selection.cls, view.state.of(selection.cls)
    prompts = tuple(feedback_prompts(search.space, search.prior, embedder, selection))
    if prompts and cls.prioritized == prompts:
        return (Answer.FIRST if cls.progress.pending else Answer.TRIED), None
    if cls.failures >= FAILURES and not cls.retryable:
        return Answer.FAILED, None
    if not view.folds_left(cls, name):
        few = view.limits.classes[name].folds < MOST_FOLDS
        return (Answer.NO_PHOTOS_LEFT if few else Answer.NO_FOLDS_LEFT), None
    evaluation = cls.evaluation
    if evaluation is not None and evaluation.opened.fold + 1 == view.limits.classes[name].folds:
        return Answer.ONLY_SEEN_LEFT, None
    due = view.standings({*view.state.due, name})
    if view.limits.spent(cls) or view.left <= view.reserve(due):
        return Answer.OUT_OF_BUDGET, None
    if not search.holds_untried(prompts):
        return Answer.NO_WORD, None
    reset = cls.retryable and cls.failures >= FAILURES
    return Answer.FIRST, PromptsPrioritized(cls=name, prompts=prompts, reset=reset)


def said(selection: Selection, answer: Answer) -> str:
    """The answer as a person reads it."""
    return f"{selection.cls}: {selection.images} images are tagged {GAP}; {_SAID[answer]}"
