"""Grouping photos: the tune photos of each class in groups that are alike, with their captions.

A session asks for them before its searches are made. They are made once: a resumed run reads back
those that its journal names, for its recipes mean those. No photo of a fold is ever in one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from gapclose.analysis.embedding import Embedder, TextEmbedder
from gapclose.analysis.errors import RealDataError
from gapclose.analysis.image_folder import ImageSet
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.values import template_slots
from gapclose.loop.errors import ConfigError
from gapclose.loop.run.events import PhotosGrouped
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import Task, TaskStarted, WarningRaised
from gapclose.loop.run.photo_groups import ALL_PHOTOS, PhotoGroup, keep_group, read_group
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.search.optuna_record import derive_seed
from gapclose.loop.search.prior import read_words
from gapclose.loop.search.space import Space
from gapclose.loop.work.real_data import ClassReference, Fold

__all__ = ["Groups", "captions_by_words", "group_photos", "open_groups"]

Groups = Mapping[str, tuple[PhotoGroup, ...]]
"""By class."""

GROUPS: Final = 8  # of a class, at most
FEWEST: Final = 25  # photos that a group has on average, at least


def check_captions(config: RunConfig, images: ImageSet | None, classes: Sequence[str]) -> None:
    """Refuse, before anything is embedded, captions that are not there.

    Args:
        config: Of the run.
        images: The real ones; None for the pond, which is rendered later.
        classes: Those of the run that have no photo groups yet.

    Raises:
        ConfigError: There are no words to make them of, or no file.
        RealDataError: A class has no photo with one.
        CaptionerError: The model that is to write them is not there.
    """
    source = config.space.captions if classes else None
    if source is None:
        return
    if source == "words":
        for name in classes:
            _check_words(Space.of(config, name))
    elif source.startswith("transformers:"):
        from gapclose.analysis.captioner import check_captioner

        check_captioner(source)
    elif source != "tune" and not Path(source).is_file():
        raise ConfigError(f"space.captions: there is no file {source}", where="config")
    elif source == "tune" or images is not None:
        texts = {} if images is None else _written(source, images)
        for name in classes:
            if images is None or not any(path in texts for path in images.of(name)):
                missing = (
                    "give them as `text` in a metadata.jsonl beside the photos"
                    if source == "tune"
                    else f"add them to {source}"
                )
                raise RealDataError(
                    f"none of its photos has a caption: {missing}, or set space.captions to words "
                    "or transformers:MODEL",
                    cls=name,
                )


def _check_words(space: Space) -> None:
    named = ([w for w in space.words[slot] if w.strip()] for slot in space.word_slots)
    if not any(len(words) > 1 for words in named):
        raise ConfigError(
            "space.captions: words are those of the slots of space.prompt, none of which has two; "
            'write one such as "a photo of a {color} {class}" beside {caption}, or leave captions '
            "out",
            where="config",
        )


def open_groups(
    config: RunConfig,
    rundir: RunDir,
    known: Mapping[str, Mapping[str, str]],
    *,
    images: ImageSet,
    real: Mapping[str, ClassReference],
    embedder: Embedder,
    reporter: Reporter,
) -> tuple[dict[str, tuple[PhotoGroup, ...]], list[PhotosGrouped]]:
    """Return the photo groups of every class, and the events of those that are new.

    Args:
        config: Of the run.
        rundir: Where groups are kept.
        known: By class, name -> digest of those that the journal names.
        images: What the photos' own captions are read from.
        real: By class.
        embedder: Its text side reads the words of captions that are made of words.
        reporter: Receives the progress.

    Returns:
        No groups where neither captions nor pictures are asked for.

    Raises:
        ConfigError: Words are to be read, and the embedder has no text side.
        RealDataError: A class has no caption.
        RunDamagedError: A group that the journal names is gone.
    """
    if not config.space.needs_photos:
        return {}, []
    found = {
        name: tuple(read_group(rundir, digest) for digest in groups.values())
        for name, groups in known.items()
    }
    new = {name: reference for name, reference in real.items() if name not in found}
    captions = _captions(config, new, images=images, embedder=embedder, reporter=reporter)
    events = []
    for name, reference in new.items():
        groups = group_photos(
            name, reference.tune, captions.get(name), seed=config.tune.seed, reporter=reporter
        )
        for group in groups:
            keep_group(rundir, group)
        found[name] = groups
        digests = {group.name: group.digest for group in groups}
        events.append(PhotosGrouped(cls=name, groups=digests))
    return found, events


def group_photos(
    cls: str,
    tune: Fold,
    captions: Sequence[str | None] | None,
    *,
    seed: int,
    reporter: Reporter,
) -> tuple[PhotoGroup, ...]:
    """Group the tune photos of a class by k-means of their embeddings, all together first.

    Args:
        cls: The class.
        tune: Its tune split.
        captions: (n,) of its photos; those without one are left out. None if they are not asked
            for.
        seed: Of the run.
        reporter: Is told how many have none.

    Raises:
        RealDataError: No photo has a caption.
    """
    texts = [None] * len(tune) if captions is None else [*captions]
    kept = [i for i, text in enumerate(texts) if captions is None or text]
    if not kept:
        raise RealDataError(
            "none of its tune photos has a caption: see space.captions, or leave it out", cls=cls
        )
    if left := len(tune) - len(kept):
        said = f"{cls}: {left} of {len(tune)} tune photos have no caption and make no prompts"
        reporter.tell(WarningRaised(message=said))

    def group(name: str, chosen: Sequence[int]) -> PhotoGroup:
        return PhotoGroup(cls=cls, name=name, captions={tune.photos[i]: texts[i] for i in chosen})

    found = [group(ALL_PHOTOS, kept)]
    labels = _labels(tune.rows[kept], seed=derive_seed(seed, cls, "photo groups"))
    numbers, sizes = np.unique(labels, return_counts=True)
    if len(numbers) > 1:
        for place, number in enumerate(numbers[np.argsort(-sizes, kind="stable")], start=1):
            mine = [i for i, label in zip(kept, labels, strict=True) if label == number]
            found.append(group(f"group {place}", mine))
    return tuple(found)


def _labels(rows: NDArray[np.float32], *, seed: int) -> NDArray[np.int32]:
    count = min(GROUPS, len(rows) // FEWEST)
    if count < 2:
        return np.zeros(len(rows), dtype=np.int32)
    return np.asarray(KMeans(count, n_init=4, random_state=seed).fit_predict(rows))


def captions_by_words(space: Space, rows: NDArray[np.float32], embedder: Embedder) -> list[str]:
    """Put the captions of (n, d) photos together from the words that fit each photo best.

    Words keep their company: of a pond with brown frogs on water and gray ones on a road, no
    caption has a brown frog on a road.

    Raises:
        ConfigError: The embedder has no text side, or there are no words to read.
    """
    _check_words(space)
    if not isinstance(embedder, TextEmbedder):
        raise ConfigError(
            "space.captions: words are read by a text encoder, which the embedder has not; use "
            "tune, a file of captions or transformers:MODEL",
            where="config",
        )
    read = {slot: read_words(space, slot, rows, embedder) for slot in space.word_slots}
    known = {slot: words for slot, words in read.items() if words is not None}
    worded = [t for t in space.words["prompt"] if "caption" not in template_slots(t)]
    template = max(worded, key=lambda t: len({*template_slots(t)} & {*known}))
    return [
        space.prompt({"prompt": template} | {slot: words[i] for slot, words in known.items()})
        for i in range(len(rows))
    ]


def _captions(
    config: RunConfig,
    real: Mapping[str, ClassReference],
    *,
    images: ImageSet,
    embedder: Embedder,
    reporter: Reporter,
) -> dict[str, Sequence[str | None]]:
    """Return the captions of every class's tune photos; none where they are not asked for."""
    source = config.space.captions
    if source is None or not real:
        return {}
    if source == "words":
        return {
            name: captions_by_words(Space.of(config, name), reference.tune.rows, embedder)
            for name, reference in real.items()
        }
    texts = _texts(source, config, real, images=images, reporter=reporter)
    return {
        name: [texts.get(path) for path in reference.tune.paths]
        for name, reference in real.items()
    }


def _texts(
    source: str,
    config: RunConfig,
    real: Mapping[str, ClassReference],
    *,
    images: ImageSet,
    reporter: Reporter,
) -> Mapping[Path, str]:
    """Read captions, or have a model write them."""
    if not source.startswith("transformers:"):
        return _written(source, images)
    from gapclose.analysis.captions import captions_of

    paths = [path for reference in real.values() for path in reference.tune.paths]
    task = TaskStarted(task=Task.CAPTIONING)
    reporter.tell(task)
    return captions_of(
        paths,
        source,
        device=config.device,
        progress=lambda done, total: reporter.tell(task.advanced(done, total)),
    )


def _written(source: str, images: ImageSet) -> Mapping[Path, str]:
    """Return the captions that lie beside the photos, or in a file."""
    if source == "tune":
        return images.texts()
    from gapclose.analysis.captions import read_captions

    return read_captions(Path(source), [file.path for file in images.files], images.root)
