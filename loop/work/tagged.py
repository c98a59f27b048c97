"""Tagged images: what a person tagged `gap` in the App comes first in the next session.

Real images are what the generator misses; synthetic ones what it makes too many of. The prompts
that would close that gap are tried before all others, and the class is confirmed anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gapclose.analysis.embedding import Embedder
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.class_state import FAILURES
from gapclose.loop.run.events import PromptsPrioritized
from gapclose.loop.run.files import read_arrays
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import TagAnswer
from gapclose.loop.run.tags import GAP, tagged_images
from gapclose.loop.schedule.decide import MOST_FOLDS
from gapclose.loop.schedule.view import View
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.feedback import Selection, feedback_prompts
from gapclose.loop.work.real_data import ClassReference


def selections(run: RunDir, real_data: Mapping[str, ClassReference]) -> Iterator[Selection]:
    """Yield the tagged images by class, of those that the run's report shows.

    Args:
        run: A run folder.
        real_data: The run's classes.
    """
    tagged = tagged_images(run, GAP)
    samples = run.samples()
    if not tagged:
        return
    try:
        rows = read_arrays(run.embeddings_path("samples"))["embeddings"]
    except (FileNotFoundError, RunDamagedError, KeyError):
        return
    if len(rows) != len(samples):
        return
    audited = all(row["stage"] != "tuned" for row in samples)
    for cls, reference in real_data.items():
        own = [i for i, row in enumerate(samples) if row["class"] == cls]
        chosen = [i for i in own if samples[i]["path"] in tagged]
        real = [i for i in chosen if samples[i]["side"] == "real"]
        # An audit shows all photos. Those that are to confirm the class must not steer it.
        steering = [i for i in real if samples[i].get("split") == "tune"] if audited else real
        if 2 * len(real) > len(chosen):
            made = [i for i in own if samples[i]["side"] == "synthetic"]
            # What it makes now; an audit shows the baseline's images alone.
            made = [i for i in made if samples[i]["stage"] == "tuned"] or made
            wanted, unwanted = rows[steering], rows[made]
        else:
            synthetic = [i for i in chosen if i not in real]
            wanted, unwanted = reference.tune.rows, rows[synthetic]
        if chosen:
            yield Selection(cls=cls, images=len(chosen), wanted=wanted, unwanted=unwanted)


def prioritize(
    selection: Selection, view: View, search: ClassSearch, embedder: Embedder
) -> tuple[TagAnswer, PromptsPrioritized | None]:
    """Return whether the prompts that would bring more of some images come first, and which.

    Args:
        selection: What was tagged.
        view: Of the run, whose round has begun.
        search: Of the class.
        embedder: As for `feedback_prompts`.
    """
    name, cls = selection.cls, view.state.of(selection.cls)
    prompts = tuple(feedback_prompts(search.space, search.prior, embedder, selection))
    if prompts and cls.prioritized == prompts:
        return (TagAnswer.FIRST if cls.asked and cls.progress.pending else TagAnswer.TRIED), None
    if cls.failures >= FAILURES and not cls.retryable:
        return TagAnswer.FAILED, None
    if not view.folds_left(cls, name):
        few = view.limits.classes[name].folds < MOST_FOLDS
        return (TagAnswer.NO_PHOTOS_LEFT if few else TagAnswer.NO_FOLDS_LEFT), None
    evaluation = cls.evaluation
    if evaluation is not None and evaluation.opened.fold + 1 == view.limits.classes[name].folds:
        return TagAnswer.ONLY_SEEN_LEFT, None
    due = view.standings({*view.state.due, name})
    if view.limits.spent(cls) or view.left <= view.reserve(due):
        return TagAnswer.OUT_OF_BUDGET, None
    if not search.holds_untried(prompts):
        return TagAnswer.NO_WORD, None
    reset = cls.retryable and cls.failures >= FAILURES
    return TagAnswer.FIRST, PromptsPrioritized(cls=name, prompts=prompts, reset=reset)
